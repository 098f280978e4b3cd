package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// processTable reads the system's processes from /proc: a small container has no ps.
func processTable() ([]processState, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("read the table of processes in /proc: %d files, %w", len(files), err)
	}
	table := make([]processState, 0, len(files))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended since
		}
		// pid (name) state parent …, where the name may hold anything, brackets and spaces too.
		end := bytes.LastIndexByte(content, ')')
		fields := bytes.Fields(content[end+1:])
		if end < 0 || len(fields) < 2 {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		parent, err := strconv.Atoi(string(fields[1]))
		if err != nil {
			continue
		}
		table = append(table, processState{
			pid: pid, parent: parent,
			stopped: bytes.ContainsAny(fields[0], "Tt"), dead: bytes.ContainsAny(fields[0], "ZX"),
		})
	}
	return table, nil
}
