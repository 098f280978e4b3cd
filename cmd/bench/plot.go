package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
)

// Sizes of the picture, in pixels.
const (
	plotWidth  = 960
	plotMargin = 24
	titleRoom  = 58
	barHeight  = 14
	groupGap   = 12
	chartGap   = 34
	nameRoom   = 270 // to the left of the bars
	valueRoom  = 80  // to the right of the longest
)

// colours are told apart by the colour-blind, too (Okabe and Ito, 2008).
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"}

// plot draws all charts of a report as bars, in an SVG. The bars lie, so that names stay readable.
func plot(r *report) []byte {
	var body bytes.Buffer
	y := titleRoom
	for _, t := range r.Tables {
		for _, c := range t.Charts {
			y = c.draw(&body, y) + chartGap
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="system-ui, sans-serif" font-size="12">`+"\n", plotWidth, y)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, y)
	label(&b, plotMargin, 26, "font-size=\"18\" font-weight=\"bold\"", "Reelay, measured")
	label(&b, plotMargin, 44, "fill=\"#555\"", r.Machine.String())
	_, _ = body.WriteTo(&b) // a buffer takes everything
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw draws a chart that begins at a height, and returns where it ends.
func (c chart) draw(b *bytes.Buffer, y int) int {
	y += 16
	label(b, plotMargin, y, "font-size=\"14\" font-weight=\"bold\"", c.title)
	y += 8
	longest := 0.0
	for _, s := range c.series {
		for _, value := range s.values {
			longest = max(longest, value)
		}
	}
	room := float64(plotWidth - 2*plotMargin - nameRoom - valueRoom)
	for i, name := range c.labels {
		y += groupGap
		// A single group needs no name of its own: its bars have theirs.
		if len(c.labels) > 1 {
			label(b, plotMargin+nameRoom-8, y+10, `text-anchor="end" font-size="11"`, shortened(name))
		}
		for n, s := range c.series {
			if len(s.values) <= i || s.values[i] == 0 { // not measured
				continue
			}
			value := s.values[i]
			width := value / longest * room
			if len(c.labels) == 1 {
				label(b, plotMargin+nameRoom-8, y+11, `text-anchor="end" font-size="11"`, shortened(s.name))
			}
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", plotMargin+nameRoom, y, width, barHeight-2, colours[n%len(colours)])
			label(b, plotMargin+nameRoom+int(math.Ceil(width))+5, y+10, `fill="#333" font-size="11"`, figure(value)+" "+c.unit)
			y += barHeight
		}
	}
	if len(c.labels) > 1 && len(c.series) > 1 {
		y += 18
		x := plotMargin + nameRoom
		for n, s := range c.series {
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/>`+"\n", x, y-9, colours[n%len(colours)])
			label(b, x+14, y, "", s.name)
			x += 30 + 7*len(s.name)
		}
	}
	return y
}

// shortened keeps a name within the room to the left of the bars.
func shortened(name string) string {
	const most = 40
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return name
}

// figure writes a value with three digits that count.
func figure(value float64) string {
	if value >= 100 {
		return grouped(strconv.FormatFloat(value, 'f', 0, 64))
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}

func label(b *bytes.Buffer, x, y int, attributes, content string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" %s>`, x, y, attributes)
	_ = xml.EscapeText(b, []byte(content)) // a buffer takes everything
	b.WriteString("</text>\n")
}
