package local

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

const (
	// longestLine bounds what is held of a line that does not end.
	longestLine = 64 << 10
	// tailLines is how much of a process's output its error quotes.
	tailLines = 20
)

// PrefixWriter writes whole lines to another writer, each with a prefix, and remembers the last few. It is safe for
// concurrent use. Several may share one writer if that is, too: each line is one Write, so lines never mix.
type PrefixWriter struct {
	to     io.Writer
	prefix string

	mu   sync.Mutex // held while writing to to: lines come in order
	line []byte     // guarded by mu; what has come of the current line
	last []string   // guarded by mu; the last tailLines lines
}

// NewPrefixWriter returns a writer that puts prefix before each line. A nil writer makes it only remember.
func NewPrefixWriter(to io.Writer, prefix string) *PrefixWriter {
	return &PrefixWriter{to: to, prefix: prefix}
}

// Write implements io.Writer. It never fails: a log that cannot be written must not end the process that logs.
func (w *PrefixWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		head, tail, whole := bytes.Cut(rest, []byte{'\n'})
		w.line = append(w.line, head...)
		if whole || len(w.line) >= longestLine {
			w.endLine()
		}
		rest = tail
	}
	return len(p), nil
}

// Flush writes a last line that had no newline.
func (w *PrefixWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.line) > 0 {
		w.endLine()
	}
}

// Tail returns the last lines written, without the prefix.
func (w *PrefixWriter) Tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.last, "\n")
}

// endLine writes the line and starts a new one. The caller holds mu.
func (w *PrefixWriter) endLine() {
	if len(w.last) == tailLines {
		w.last = append(w.last[:0], w.last[1:]...)
	}
	w.last = append(w.last, string(w.line))
	if w.to != nil {
		_, _ = io.WriteString(w.to, w.prefix+string(w.line)+"\n")
	}
	w.line = w.line[:0]
}
