package local_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/reelay/reelay/deploy/local"
)

// helperEnv makes the test binary play the part of a program that uses this package.
const helperEnv = "REELAY_LOCAL_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		if err := helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// helper starts one of everything, says so, and never stops any of it. With "paused" the servers are paused.
func helper() error {
	ctx := context.Background()
	postgres, err := local.StartPostgres(ctx, local.Options{Settings: local.FastSettings()})
	if err != nil {
		return err
	}
	redis, err := local.StartRedis(ctx, local.Options{})
	if err != nil {
		return err
	}
	if _, err = local.StartProcess(local.Command{Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; sleep 600"}}); err != nil {
		return err
	}
	// A backend in mid-query is the one that does not look up when its postmaster dies.
	busy, err := pgx.Connect(ctx, postgres.URL("postgres"))
	if err != nil {
		return err
	}
	go func() { _, _ = busy.Exec(ctx, "SELECT count(*) FROM (SELECT generate_series(1, 1e15)) AS endless") }()
	if err := untilBusy(ctx, postgres); err != nil {
		return err
	}
	if os.Getenv(helperEnv) == "paused" {
		if err := errors.Join(postgres.Pause(), redis.Pause()); err != nil {
			return err
		}
	}
	fmt.Println("folder", postgres.Folder())
	fmt.Println("ready")
	select {}
}

// untilBusy waits for a backend that is in a query other than its own.
func untilBusy(ctx context.Context, postgres *local.Postgres) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgres.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for busy := false; !busy; {
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid())").
			Scan(&busy)
		if err != nil {
			return err
		}
	}
	return nil
}

// lines is a log whose lines can be waited for.
type lines struct {
	reader *io.PipeReader
	writer *io.PipeWriter
	come   chan string
}

func newLines(t *testing.T) *lines {
	t.Helper()
	l := &lines{come: make(chan string, 10_000)}
	l.reader, l.writer = io.Pipe()
	go func() { // ends when the cleanup closes the writer
		defer close(l.come)
		for scanner := bufio.NewScanner(l.reader); scanner.Scan(); {
			l.come <- scanner.Text()
		}
	}()
	t.Cleanup(func() { _ = l.writer.Close() })
	return l
}

func (l *lines) Write(p []byte) (int, error) { return l.writer.Write(p) }

// wait returns the next line that contains text.
func (l *lines) wait(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case line := <-l.come:
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("no line with %q came", text)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

// gone says whether no process has this pid. A zombie that waits for its new parent counts as gone.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

// descendants returns all processes below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	parents, _, err := local.ProcessTable()
	if err != nil {
		t.Fatal(err)
	}
	below := []int{pid}
	for i := 0; i < len(below); i++ {
		for child, parent := range parents {
			if parent == below[i] {
				below = append(below, child)
			}
		}
	}
	return below[1:]
}

func needsServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers; -short is without")
	}
}
