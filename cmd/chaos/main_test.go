package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// gateway builds what the tests run, with the race detector in it.
var gateway = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "reelay-system-")
	if err != nil {
		return "", err
	}
	gatewayFolder = folder
	path := filepath.Join(folder, "reelay")
	build := exec.Command("go", "build", "-race", "-tags", "nomsgpack", "-o", path, "../reelay")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, output)
	}
	return path, nil
})

// gatewayFolder is to be removed in the end; empty if nothing was built.
var gatewayFolder string

func TestMain(m *testing.M) {
	code := m.Run()
	if gatewayFolder != "" {
		_ = os.RemoveAll(gatewayFolder)
	}
	os.Exit(code)
}

func buildGateway(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	path, err := gateway()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newStack starts the whole system for one test, with three replicas as real processes.
func newStack(t *testing.T, width int) *stack {
	t.Helper()
	path := buildGateway(t)
	l, err := openLogs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, alarm := range l.alarms() {
			t.Errorf("a replica says: %s", alarm)
		}
		if t.Failed() {
			t.Logf("the end of the logs:\n%s", endOf(l.path))
		}
		_ = l.close(true)
	})
	s, err := startStack(t.Context(), stackConfig{binary: path, replicas: 3, width: width, log: l})
	if err != nil {
		t.Fatalf("start the system: %v", err)
	}
	t.Cleanup(func() {
		if err := s.stop(context.Background()); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	return s
}

// endOf returns the last lines of a file.
func endOf(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(content), "\n")
	return strings.Join(lines[max(0, len(lines)-80):], "\n")
}

// some is a load under which things go wrong in the tests below.
var some = scenario{users: 50, sockets: 3, connections: 20, pace: 20 * time.Millisecond, seed: 1}

// play runs a campaign while something happens, and fails the test unless every session has exactly what it should.
func play(t *testing.T, s *stack, sc scenario, during func(*episode) error) {
	t.Helper()
	c, err := s.begin(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	err = during(&episode{campaign: c})
	if err == nil {
		_, err = c.compare(t.Context())
	}
	if err := errors.Join(err, c.end()); err != nil {
		t.Fatal(err)
	}
	o := c.outcome
	t.Logf("%d transactions, %d events, %d received by %d sessions, %d resets", o.Transactions, o.Events, o.Received, o.Sessions, o.Resets)
	if !o.clean() {
		t.Errorf("%s; want none\n%s", o.verdict.String(), strings.Join(o.Details[:min(30, len(o.Details))], "\n"))
	}
	if o.Resets > 0 {
		t.Errorf("%d sessions were reset, want none", o.Resets)
	}
	if o.Events == 0 || o.Received < o.Events {
		t.Errorf("%d events and %d received: the test watched nothing", o.Events, o.Received)
	}
}

//nolint:paralleltest // It takes the whole machine, as those below.
func TestSystem_EverySessionGetsExactlyItsUsersEvents(t *testing.T) {
	s := newStack(t, 0)
	much := some
	much.pace = 2 * time.Millisecond
	play(t, s, much, func(e *episode) error {
		return until(t.Context(), 2*time.Minute, "much is committed", func() bool {
			return e.failure() != nil || e.writers.committed.Load() >= 2000
		})
	})
}

//nolint:paralleltest // It takes the whole machine.
func TestSystem_LeaderKilledTenTimes(t *testing.T) {
	play(t, newStack(t, 0), some, func(e *episode) error {
		for range 10 {
			if err := errors.Join(leaderKilled(t.Context(), e)); err != nil {
				return err
			}
		}
		return e.whole(t.Context())
	})
}

//nolint:paralleltest // It takes the whole machine.
func TestSystem_PostgresAndRedisRestarted(t *testing.T) {
	play(t, newStack(t, 0), some, func(e *episode) error {
		if err := postgresRestarted(t.Context(), e); err != nil {
			return err
		}
		return redisKilled(t.Context(), e)
	})
}

// TestChaos_ShortSeededRun plays every fault once. Its bounds are not judged here: how long things take on a machine
// that does other things says nothing.
//
//nolint:paralleltest // It takes the whole machine.
func TestChaos_ShortSeededRun(t *testing.T) {
	p := plan{
		scenario: scenario{users: 20, sockets: 3, connections: 6, pace: 60 * time.Millisecond, seed: 1},
		timing:   shortTiming, faults: faults, rounds: 1,
	}
	r, err := p.carryOut(t.Context(), newStack(t, 5000), lineWriter{t})
	var table bytes.Buffer
	r.print(&table)
	t.Logf("\n%s", table.String())
	if err != nil {
		t.Fatal(err)
	}
	if !r.kept() {
		t.Errorf("promises were broken:\n%s", strings.Join(r.wrong(), "\n"))
	}
	for _, row := range r.rows {
		want := 1
		if row.fault.rehearsed {
			want = 2
		}
		if row.played != want && row.skipped == "" {
			t.Errorf("%d %s was played %d times, want %d", row.fault.number, row.fault.name, row.played, want)
		}
	}
}

// lineWriter shows progress in a test's log.
type lineWriter struct{ t *testing.T }

func (w lineWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

//nolint:paralleltest // It takes the whole machine.
func TestRun_AnInterruptLeavesNothingBehind(t *testing.T) {
	path := buildGateway(t)
	for word, fault := range map[string]string{"round 1": "leader-frozen", "before the first round": "herd"} {
		t.Run(word, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			folder := t.TempDir()
			stdout := &trigger{word: word, pull: cancel}
			err := run(ctx, []string{"--short", "--faults", fault, "--reelay", path, "--keep-logs", folder}, stdout, io.Discard)
			if err == nil || !strings.Contains(err.Error(), "interrupted") {
				t.Errorf("run: got %v, want interrupted\n%s", err, stdout.said.String())
			}
			if children := childrenOf(t, os.Getpid()); len(children) > 0 {
				t.Errorf("left behind: %v", children)
			}
			if _, err := os.Stat(filepath.Join(folder, "chaos.log")); err != nil {
				t.Errorf("the logs were to be kept: %v", err)
			}
		})
	}
}

// trigger does something when a word is written.
type trigger struct {
	word string
	pull func()
	said bytes.Buffer
}

func (w *trigger) Write(p []byte) (int, error) {
	w.said.Write(p)
	if strings.Contains(w.said.String(), w.word) {
		w.pull()
	}
	return len(p), nil
}

// childrenOf returns the command lines of a process's children, where there is a /proc to ask.
func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var children []string
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		_, rest, _ := cutLast(string(content), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(pid) {
			children = append(children, string(content))
		}
	}
	return children
}

func TestRun_ExplainsItself(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args           []string
		stdout, stderr string
		err            string
	}{
		"help":        {[]string{"--help"}, "", "make chaos", flag.ErrHelp.Error()},
		"list":        {[]string{"--list"}, " 4  leader-no-redis", "", ""},
		"a word":      {[]string{"all"}, "", "", `unexpected argument "all" (chaos --help explains)`},
		"no fault":    {[]string{"--faults", "1,meteor"}, "", "", `there is no fault "meteor"; --list names them`},
		"no round":    {[]string{"--rounds", "0"}, "", "", "--rounds 0: must be at least 1"},
		"no such one": {[]string{"--speed", "9"}, "", "", "chaos --help explains"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), test.args, &stdout, &stderr)
			if got := fmt.Sprint(err); test.err != "" && !strings.Contains(got, test.err) || test.err == "" && err != nil {
				t.Errorf("error: got %q, want one with %q", got, test.err)
			}
			if !strings.Contains(stdout.String(), test.stdout) {
				t.Errorf("stdout: got %q, want it to have %q", stdout.String(), test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("stderr: got %q, want it to have %q", stderr.String(), test.stderr)
			}
		})
	}
}
