package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is the gateway that the tests run, with the race detector in it.
var binary = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "reelay-system-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "reelay")
	build := exec.Command("go", "build", "-race", "-tags", "nomsgpack", "-o", path, "../reelay")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil && !testing.Short() {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// newStack starts the whole system for one test, with three replicas as real processes.
func newStack(t *testing.T) *stack {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log := new(logBuffer)
	s, err := startStack(t.Context(), path, 3, log)
	if err != nil {
		t.Fatalf("start the system: %v\n%s", err, log.tail())
	}
	t.Cleanup(func() {
		if err := s.stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop the system: %v", err)
		}
		if strings.Contains(log.String(), "DATA RACE") {
			t.Error("a replica found a data race")
		}
		if t.Failed() {
			t.Logf("the end of the logs:\n%s", log.tail())
		}
	})
	return s
}

type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func (b *logBuffer) tail() string {
	lines := strings.Split(b.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-80):], "\n")
}

// mustBeClean fails the test unless every client received exactly what it should.
func mustBeClean(t *testing.T, o outcome) {
	t.Helper()
	t.Logf("%d transactions, %d events for %d clients, %d received, %d resets", o.Transactions, o.Events, o.Watchers, o.Received, o.Resets)
	if !o.clean() {
		t.Errorf("lost %d, twice %d, out of order %d, foreign %d, wrong states %d; want none\n%s",
			o.Lost, o.Twice, o.Disordered, o.Foreign, o.States, strings.Join(o.Details[:min(30, len(o.Details))], "\n"))
	}
	if o.Events == 0 || o.Received < o.Events {
		t.Errorf("%d events and %d received: the test watched nothing", o.Events, o.Received)
	}
}

var big = scenario{users: 50, sockets: 3, connections: 20, transactions: 4000, pace: 2 * time.Millisecond, seed: 1}

func TestSystem_EverySessionGetsExactlyItsUsersEvents(t *testing.T) {
	s := newStack(t)
	o, err := s.play(t.Context(), big, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, o)
	if o.Resets > 0 {
		t.Errorf("%d sessions were reset, want none", o.Resets)
	}
}

func TestSystem_LeaderKilledTenTimes(t *testing.T) {
	s := newStack(t)
	slow := big
	slow.transactions = 0
	slow.pace = 10 * time.Millisecond
	o, err := s.play(t.Context(), slow, func(ctx context.Context) error {
		for range 10 {
			if err := s.killLeader(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, o)
	if o.Resets > 0 {
		t.Errorf("%d sessions were reset, want none", o.Resets)
	}
}

func TestSystem_PostgresAndRedisRestarted(t *testing.T) {
	s := newStack(t)
	slow := big
	slow.transactions = 0
	slow.pace = 10 * time.Millisecond
	o, err := s.play(t.Context(), slow, func(ctx context.Context) error {
		for _, mode := range []string{"fast", "immediate"} {
			if err := s.postgres.Restart(ctx, mode); err != nil {
				return err
			}
			if err := s.flows(ctx); err != nil {
				return fmt.Errorf("after Postgres was restarted (%s): %w", mode, err)
			}
		}
		s.redis.Kill()
		if err := s.flows(ctx); err != nil {
			return fmt.Errorf("without Redis: %w", err)
		}
		if err := s.redis.Start(ctx); err != nil {
			return err
		}
		return s.flows(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, o)
	if o.Resets > 0 {
		t.Errorf("%d sessions were reset, want none", o.Resets)
	}
}
