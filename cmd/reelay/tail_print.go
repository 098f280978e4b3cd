package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/reelay/reelay/api/client"
)

// printer writes events for a person to read: one line each, in columns that line up. A column is as wide as the widest
// cell so far, up to a limit: what comes is not known beforehand.
type printer struct {
	out    io.Writer
	zone   *time.Location
	colour bool
	widths [3]int // of type, subject and changes
}

const (
	maxColumn = 48
	// maxValue is the most letters shown of one value. The whole of it is in the JSON.
	maxValue = 40
)

// raw writes the frame as it came, on one line.
func (p *printer) raw(frame client.Frame) error {
	var line bytes.Buffer
	if err := json.Compact(&line, frame.Raw); err != nil {
		return fmt.Errorf("print frame: %w", err)
	}
	line.WriteByte('\n')
	return p.write(line.Bytes())
}

// frame writes an event, or the videos of a snapshot. Other frames are no events.
func (p *printer) frame(frame client.Frame) error {
	switch {
	case frame.Type == client.TypeSnapshot:
		return p.snapshot(frame)
	case frame.Own():
		return nil
	}
	return p.line(frame.Time, frame.Type, frame.Subject, describeChange(frame.Data), frame.ID)
}

func (p *printer) snapshot(frame client.Frame) error {
	var page struct {
		Videos []json.RawMessage `json:"videos"`
	}
	if err := frame.Decode(&page); err != nil {
		return err
	}
	for i, video := range page.Videos {
		subject := ""
		var columns []string
		for _, m := range members(video) {
			if m.name == "id" {
				subject = plain(m.value)
			} else {
				columns = append(columns, clean(m.name)+": "+show(m.value))
			}
		}
		cursor := "" // of the last page, and there of its last video
		if i == len(page.Videos)-1 {
			cursor = frame.Cursor
		}
		if err := p.line(frame.Time, "snapshot", subject, strings.Join(columns, ", "), cursor); err != nil {
			return err
		}
	}
	return nil
}

// Colours of a terminal, by what they are for.
const (
	faint = "\x1b[2m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
	red   = "\x1b[31m"
	reset = "\x1b[0m"
)

func colourOf(kind string) string {
	switch kind[strings.LastIndexByte(kind, '.')+1:] {
	case "created", "added":
		return green
	case "deleted", "removed":
		return red
	case "snapshot":
		return faint
	}
	return cyan
}

func (p *printer) line(at time.Time, kind, subject, changes, cursor string) error {
	paint := func(colour, text string) string {
		if !p.colour || text == "" {
			return text
		}
		return colour + text + reset
	}
	cells := [3]string{clean(kind), clean(subject), changes}
	for i, cell := range cells {
		width := utf8.RuneCountInString(cell)
		p.widths[i] = max(p.widths[i], min(width, maxColumn))
		if cells[i] = cell; width < p.widths[i] {
			cells[i] += strings.Repeat(" ", p.widths[i]-width)
		}
	}
	clock := "            " // of a frame that tells no time
	if !at.IsZero() {
		clock = at.In(p.zone).Format("15:04:05.000")
	}
	line := strings.Join([]string{
		paint(faint, clock), paint(colourOf(kind), cells[0]), cells[1], cells[2], paint(faint, clean(cursor)),
	}, "  ")
	return p.write([]byte(strings.TrimRight(line, " ") + "\n"))
}

// write hands over a whole line at a time, so that a reader of a pipe gets each event when it happens.
func (p *printer) write(line []byte) error {
	if _, err := p.out.Write(line); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// describeChange says what an event's data means: old → new for the columns that changed, otherwise every column.
func describeChange(data json.RawMessage) string {
	all := members(data)
	value := make(map[string]json.RawMessage, len(all))
	for _, m := range all {
		value[m.name] = m.value
	}
	var parts []string
	for _, old := range members(value["previous"]) {
		now := "?"
		if raw, found := value[old.name]; found {
			now = show(raw)
		}
		parts = append(parts, clean(old.name)+": "+show(old.value)+" → "+now)
	}
	if len(parts) == 0 {
		for _, m := range all {
			parts = append(parts, clean(m.name)+": "+show(m.value))
		}
	}
	return strings.Join(parts, ", ")
}

type member struct {
	name  string
	value json.RawMessage
}

// members returns the members of a JSON object in the order they stand; none if it is no object.
func members(object json.RawMessage) []member {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil
	}
	var all []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return all
		}
		m := member{name: fmt.Sprint(name)}
		if decoder.Decode(&m.value) != nil {
			return all
		}
		all = append(all, m)
	}
	return all
}

// show returns a value as short text.
func show(raw json.RawMessage) string {
	text := plain(raw)
	if text == "" {
		return `""`
	}
	text = clean(text)
	if utf8.RuneCountInString(text) <= maxValue {
		return text
	}
	return string([]rune(text)[:maxValue-1]) + "…"
}

// plain returns a string without its quotes, and any other value as JSON.
func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil && string(raw) != "null" {
		return text
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return "?"
	}
	return compact.String()
}

// clean makes text of others fit for a terminal: what moves the cursor, rings, changes the direction of writing or
// breaks the line is shown as an escape.
func clean(text string) string {
	unfit := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if !strings.ContainsFunc(text, unfit) {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}
