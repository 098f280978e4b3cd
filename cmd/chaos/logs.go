package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// logs is one file with what everybody says, line by line, as it came. It looks for what no replica should ever say.
type logs struct {
	path string
	temp string // the folder to be removed, if it is nobody's choice

	mu    sync.Mutex
	file  *os.File // guarded by mu
	found []string // guarded by mu
}

// openLogs makes the file in a folder, or in a temporary one if none is given.
func openLogs(folder string) (*logs, error) {
	l := &logs{}
	var err error
	if folder == "" {
		folder, err = os.MkdirTemp("", "reelay-chaos-logs-")
		l.temp = folder
	} else {
		err = os.MkdirAll(folder, 0o750)
	}
	if err != nil {
		return nil, fmt.Errorf("make a folder for logs: %w", err)
	}
	l.path = filepath.Join(folder, "chaos.log")
	if l.file, err = os.Create(l.path); err != nil {
		return nil, fmt.Errorf("make a file for logs: %w", err)
	}
	return l, nil
}

// Write implements io.Writer.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, alarm := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if bytes.Contains(p, []byte(alarm)) && len(l.found) < 10 {
			l.found = append(l.found, trimmed(string(p)))
		}
	}
	return l.file.Write(p)
}

// alarms returns the lines that no replica should ever say.
func (l *logs) alarms() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.found
}

// close ends the file. A temporary one is removed, unless it is to be kept.
func (l *logs) close(keep bool) error {
	err := l.file.Close()
	if !keep && l.temp != "" {
		err = errors.Join(err, os.RemoveAll(l.temp))
	}
	return err
}
