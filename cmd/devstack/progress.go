package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells the terminal what is going on. Its methods are safe for concurrent use.
type progress struct {
	out   io.Writer
	quiet bool

	mu   sync.Mutex
	open bool // guarded by mu; a step's line has begun and not ended
}

// step names what is being done, does it, and ends the line with the time it took.
func (p *progress) step(name string, do func() error) error {
	if p.quiet {
		return do()
	}
	p.print(fmt.Sprintf("  %-26s ", name), true)
	began := time.Now()
	err := do()
	result := fmt.Sprintf("%4.1f s\n", time.Since(began).Seconds())
	switch {
	case errors.Is(err, context.Canceled):
		result = "interrupted\n"
	case err != nil:
		result = "did not work\n"
	}
	p.mu.Lock()
	interrupted := !p.open
	p.mu.Unlock()
	if interrupted {
		result = fmt.Sprintf("  %-26s %s", name, result)
	}
	p.print(result, false)
	return err
}

// sayf tells what somebody at the terminal wants to know even if they asked for quiet.
func (p *progress) sayf(format string, args ...any) {
	p.mu.Lock()
	begun := p.open
	p.mu.Unlock()
	text := fmt.Sprintf(format, args...) + "\n"
	if begun {
		text = "\n" + text
	}
	p.print(text, false)
}

// print writes text. A terminal that is gone is no reason to fail.
func (p *progress) print(text string, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = open
	_, _ = io.WriteString(p.out, text)
}
