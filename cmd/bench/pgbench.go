package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// pgbench is the load generator that comes with Postgres. It takes less of the CPU than anything written in Go.
type pgbench struct {
	path, script, url string
}

// newPgbench returns nil where there is no pgbench beside the server's own programs. close removes its script.
func newPgbench(s *stack) (*pgbench, error) {
	p := &pgbench{path: s.postgres.Bin("pgbench"), url: s.url()}
	if _, err := os.Stat(p.path); err != nil {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	file, err := os.CreateTemp("", "reelay-bench-*.sql")
	if err != nil {
		return nil, fmt.Errorf("make a script for pgbench: %w", err)
	}
	p.script = file.Name()
	_, err = fmt.Fprintf(file, "\\set n random(0, %d)\n%s'v' || :n;\n", users*perUser-1, toggleStatus)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("write a script for pgbench: %w", err)
	}
	return p, nil
}

func (p *pgbench) close() { _ = os.Remove(p.script) }

// run updates for a time, in whole seconds, after one that does not count: sessions are new to it, and pages are written
// to for the first time after a checkpoint. It returns how many transactions there were in all, and how many a second.
func (p *pgbench) run(ctx context.Context, clients int, d time.Duration) (transactions int64, rate float64, err error) {
	//nolint:gosec // G204: the program is that of the Postgres we started
	command := exec.CommandContext(ctx, p.path, "-n", "-M", "prepared", "-f", p.script, "-j", strconv.Itoa(min(2, clients)),
		"-c", strconv.Itoa(clients), "-P", "1", "-T", strconv.Itoa(int(d.Seconds())+1), p.url)
	said, err := command.CombinedOutput()
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("pgbench: %w: %s", err, said)
	}
	var first, last, counted float64 // seconds, and transactions between them
	for line := range strings.Lines(string(said)) {
		var at, now float64
		if _, err := fmt.Sscanf(line, "progress: %g s, %g tps", &at, &now); err == nil {
			if first == 0 {
				first = at
			} else {
				counted += now * (at - last)
			}
			last = at
		}
		_, _ = fmt.Sscanf(line, "number of transactions actually processed: %d", &transactions)
	}
	if transactions == 0 || counted == 0 {
		return 0, 0, fmt.Errorf("pgbench tells no rate: %s", said)
	}
	return transactions, counted / (last - first), nil
}
