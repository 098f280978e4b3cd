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

// run updates for a time, in whole seconds.
func (p *pgbench) run(ctx context.Context, clients int, d time.Duration) (transactions int64, took time.Duration, err error) {
	//nolint:gosec // G204: the program is that of the Postgres we started
	command := exec.CommandContext(ctx, p.path, "-n", "-M", "prepared", "-f", p.script, "-j", strconv.Itoa(min(2, clients)),
		"-c", strconv.Itoa(clients), "-T", strconv.Itoa(int(d.Seconds())), p.url)
	said, err := command.CombinedOutput()
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("pgbench: %w: %s", err, said)
	}
	var rate float64
	for line := range strings.Lines(string(said)) {
		_, _ = fmt.Sscanf(line, "number of transactions actually processed: %d", &transactions)
		_, _ = fmt.Sscanf(line, "tps = %g", &rate) // without the time to connect
	}
	if transactions == 0 || rate == 0 {
		return 0, 0, fmt.Errorf("pgbench tells no rate: %s", said)
	}
	return transactions, time.Duration(float64(transactions) / rate * float64(time.Second)), nil
}
