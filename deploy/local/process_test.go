package local_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reelay/reelay/deploy/local"
)

func startShell(t *testing.T, log *lines, script string) *local.Process {
	t.Helper()
	p, err := local.StartProcess(local.Command{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestProcess_ErrQuotesTheEndOfItsOutput(t *testing.T) {
	t.Parallel()
	p := startShell(t, newLines(t), "for i in $(seq 100); do echo line $i; done; printf 'the reason' >&2; exit 3")
	<-p.Done()
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.ExitCode() != 3 ||
		!strings.HasSuffix(err.Error(), "line 99\nline 100\nthe reason") || strings.Contains(err.Error(), "line 80\n") {
		t.Fatalf("got %v, want status 3 and the last 20 lines", err)
	}
	if err := p.Stop(t.Context()); !errors.As(err, &exit) {
		t.Fatalf("Stop of what had ended badly: got %v, want the same error", err)
	}
}

func TestProcess_StopAsksFirst(t *testing.T) {
	t.Parallel()
	log := newLines(t)
	p := startShell(t, log, "trap 'echo tidying; exit 0' TERM; echo up; while :; do sleep 1 & wait; done")
	log.wait(t, "up")
	if err := p.Err(); err != nil {
		t.Fatalf("while it runs: got %v, want nil", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := log.wait(t, "tidying"), "script | tidying"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if err := p.Err(); err != nil {
		t.Fatalf("after it ended with 0: got %v, want nil", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatalf("a second Stop: got %v, want nil", err)
	}
}

func TestProcess_StopKillsTheGroupOfOneThatDoesNotListen(t *testing.T) {
	t.Parallel()
	log := newLines(t)
	p := startShell(t, log, "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo up; wait")
	log.wait(t, "up")
	children := descendants(t, p.PID())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want an error that says it was killed", err)
	}
	for _, pid := range append(children, p.PID()) {
		eventually(t, "its process is gone", func() bool { return gone(t, pid) })
	}
}

func TestProcess_StopReachesOneThatIsPaused(t *testing.T) {
	t.Parallel()
	p := startShell(t, newLines(t), "sleep 600")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestProcess_TheGroupEndsWithIt(t *testing.T) {
	t.Parallel()
	log := newLines(t)
	p := startShell(t, log, "sleep 600 & echo child $!")
	log.wait(t, "child")
	<-p.Done()
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody is left in the group", func() bool {
		return errors.Is(syscall.Kill(-p.PID(), 0), syscall.ESRCH)
	})
}

func TestProcess_LeadsAGroupOfItsOwn(t *testing.T) {
	t.Parallel()
	p := startShell(t, newLines(t), "sleep 600")
	group, err := syscall.Getpgid(p.PID())
	if err != nil || group != p.PID() {
		t.Fatalf("got group %d, %v; want its own, %d: Ctrl-C must not reach it", group, err, p.PID())
	}
}

func TestProcess_AProgramThatIsNotThere(t *testing.T) {
	t.Parallel()
	if _, err := local.StartProcess(local.Command{Path: "/nowhere/reelay"}); err == nil ||
		!strings.Contains(err.Error(), "start /nowhere/reelay") {
		t.Fatalf("got %v, want an error that names the program", err)
	}
}

func TestPrefixWriter_WritesWholeLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := local.NewPrefixWriter(&out, "a | ")
	for _, part := range []string{"one\ntw", "o", "\n\nthree"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	if got, want := out.String(), "a | one\na | two\na | \n"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	w.Flush()
	if got, want := w.Tail(), "one\ntwo\n\nthree"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if !strings.HasSuffix(out.String(), "a | three\n") {
		t.Fatalf("Flush did not write the last line: %q", out.String())
	}
}

func TestPrefixWriter_ALineWithoutEndIsBounded(t *testing.T) {
	t.Parallel()
	longest := 0
	w := local.NewPrefixWriter(writerFunc(func(p []byte) { longest = max(longest, len(p)) }), "")
	for range 1000 {
		_, _ = w.Write(bytes.Repeat([]byte{'x'}, 1000))
	}
	if longest == 0 || longest > 70_000 {
		t.Fatalf("got writes of up to %d bytes, want some, of up to 64 KiB", longest)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
