package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// report is everything that one run measured.
type report struct {
	Machine machine  `json:"machine"`
	Quick   bool     `json:"quick"`
	Seconds float64  `json:"seconds_each"`
	Rounds  int      `json:"rounds"`
	Tables  []*table `json:"tables"`
}

// table is what one benchmark found. Its columns name, for a program that reads the JSON, what stands in each row.
type table struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Columns []column `json:"columns"`
	Rows    []row    `json:"rows"`
	Notes   []string `json:"notes,omitempty"`
	Charts  []chart  `json:"-"`
}

// column is one figure of each row. Digits are those behind the point.
type column struct {
	Key    string `json:"key"`
	Head   string `json:"head"`
	Digits int    `json:"-"`
}

// row holds a value for each column that has one, by its key: a string, an int, a float64 or a ratio.
type row map[string]any

// ratio is a figure that is no measure of its column's, and has two digits whatever that has.
type ratio float64

// chart is a picture of a table: for each label a group of bars, one of each series.
type chart struct {
	title  string
	unit   string
	labels []string
	series []series
}

// series is one bar in each group; what was not measured is 0.
type series struct {
	name   string
	values []float64
}

// countColumns end every table: what must be 0.
var countColumns = []column{{"lost", "lost", 0}, {"twice", "twice", 0}}

func (t *table) add(r row) { t.Rows = append(t.Rows, r) }

// show writes the table as text: words to the left, figures to the right, as wide as they need.
func (t *table) show(to io.Writer) {
	lines := [][]string{{}}
	for _, c := range t.Columns {
		lines[0] = append(lines[0], c.Head)
	}
	left := make([]bool, len(t.Columns))
	for _, r := range t.Rows {
		var cells []string
		for i, c := range t.Columns {
			if _, word := r[c.Key].(string); word {
				left[i] = true
			}
			cells = append(cells, text(r[c.Key], c.Digits))
		}
		lines = append(lines, cells)
	}
	widths := make([]int, len(t.Columns))
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n\n", t.Name, t.Title)
	for _, cells := range lines {
		var line strings.Builder
		for i, cell := range cells {
			room := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			line.WriteString("  ")
			if left[i] {
				line.WriteString(cell + room)
			} else {
				line.WriteString(room + cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if len(t.Notes) > 0 {
		b.WriteString("\n  " + strings.Join(t.Notes, "\n  ") + "\n")
	}
	_, _ = io.WriteString(to, b.String()) // a terminal that is gone is no reason to fail
}

// text writes a cell. Thousands are set apart, and what has no value is a dash.
func text(value any, digits int) string {
	switch value := value.(type) {
	case string:
		return value
	case int:
		return grouped(strconv.Itoa(value))
	case float64:
		return grouped(strconv.FormatFloat(value, 'f', digits, 64))
	case ratio:
		return grouped(strconv.FormatFloat(float64(value), 'f', 2, 64)) + " ×"
	default:
		return "–"
	}
}

// grouped puts a comma before each three digits of the whole part.
func grouped(number string) string {
	whole, fraction, point := strings.Cut(number, ".")
	sign := ""
	if rest, negative := strings.CutPrefix(whole, "-"); negative {
		sign, whole = "-", rest
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		whole += "." + fraction
	}
	return sign + whole
}

// save writes the files that were asked for.
func (r *report) save(o options) error {
	var errs []error
	if o.json != "" {
		content, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write the figures as JSON: %w", err)
		}
		errs = append(errs, os.WriteFile(o.json, append(content, '\n'), 0o600))
	}
	if o.plot != "" {
		errs = append(errs, os.WriteFile(o.plot, plot(r), 0o600))
	}
	return errors.Join(errs...)
}

// wrong returns an error if any event was lost or came twice.
func (r *report) wrong() error {
	var errs []error
	for _, t := range r.Tables {
		for _, line := range t.Rows {
			for _, c := range countColumns {
				if n, _ := line[c.Key].(int); n != 0 {
					errs = append(errs, fmt.Errorf("%s: %s %s: %s", t.Name, text(n, 0), c.Key, t.label(line)))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// label names a row by its words.
func (t *table) label(r row) string {
	var words []string
	for _, c := range t.Columns {
		if word, ok := r[c.Key].(string); ok {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// quantity is a figure measured several times.
type quantity []float64

func (q quantity) median() float64 { return quantile(q, 0.5) }

// milliseconds is how tables give durations.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
