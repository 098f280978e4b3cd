package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
)

// progress tells whoever waits what is being measured: in one line that changes on a terminal, else in one line each.
// It is used by one goroutine at a time.
type progress struct {
	out      io.Writer
	terminal bool
	begun    time.Time
	name     string // of the table
}

func newProgress(out io.Writer) *progress {
	file, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && isatty.IsTerminal(file.Fd()), begun: time.Now()}
}

// bench measures one table.
func (p *progress) bench(name string, measure func() (*table, error)) (*table, error) {
	p.name = name
	begun := time.Now()
	p.stepf("starting servers")
	t, err := measure()
	p.close()
	if err == nil && !p.terminal {
		_, _ = fmt.Fprintf(p.out, "%6s  %s: done in %.0f s\n", p.elapsed(), name, time.Since(begun).Seconds())
	}
	return t, err
}

// stepf says what begins now. A terminal that is gone is no reason to fail.
func (p *progress) stepf(format string, args ...any) {
	if p == nil {
		return
	}
	line := fmt.Sprintf("%6s  %s: %s", p.elapsed(), p.name, fmt.Sprintf(format, args...))
	if p.terminal {
		_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", line)
		return
	}
	_, _ = fmt.Fprintln(p.out, line)
}

func (p *progress) elapsed() string {
	return fmt.Sprintf("%.0f s", time.Since(p.begun).Seconds())
}

// close clears the line of a terminal.
func (p *progress) close() {
	if p.terminal {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}
