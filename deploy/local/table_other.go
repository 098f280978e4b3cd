//go:build unix && !linux

package local

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// processTable asks ps for the system's processes.
func processTable() ([]processState, error) {
	out, err := exec.Command("/bin/ps", "-A", "-o", "pid=,ppid=,state=").Output() //nolint:noctx // It is quick.
	if err != nil {
		return nil, fmt.Errorf("read the table of processes: %w", err)
	}
	var table []processState
	for line := range bytes.Lines(out) {
		var s processState
		var state string
		if _, err := fmt.Sscan(string(line), &s.pid, &s.parent, &state); err != nil {
			return nil, fmt.Errorf("read the table of processes: line %q: %w", line, err)
		}
		s.stopped = strings.HasPrefix(state, "T")
		s.dead = strings.HasPrefix(state, "Z")
		table = append(table, s)
	}
	return table, nil
}
