package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMain_Clock is the process whose clock is set in the test below: it tells the time for each line that it reads.
func TestMain_Clock(t *testing.T) {
	t.Parallel()
	if os.Getenv("CHAOS_TELL_TIME") == "" {
		t.Skip("is run by another test")
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		_, _ = fmt.Fprintf(os.Stdout, "time %d\n", time.Now().Unix())
	}
}

func TestSetClock_IsOffInOneProcessAndRightAgain(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run", "^TestMain_Clock$")
	child.Env = append(os.Environ(), "CHAOS_TELL_TIME=1")
	ask, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = ask.Close()
		_ = child.Wait()
	}()
	lines := bufio.NewScanner(answers)
	off := func() time.Duration {
		t.Helper()
		if _, err := ask.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if _, told, found := strings.Cut(lines.Text(), "time "); found {
				seconds, err := strconv.ParseInt(told, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				return time.Until(time.Unix(seconds, 0)).Round(10 * time.Second)
			}
		}
		t.Fatalf("the child told no time: %v", lines.Err())
		return 0
	}
	if got := off(); got != 0 {
		t.Fatalf("before: %v off", got)
	}
	for _, want := range []time.Duration{clockOff, -clockOff} {
		restore, err := setClock(t.Context(), child.Process.Pid, want)
		if errors.Is(err, errSkipped) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := off(); got != want {
			t.Errorf("set: %v off, want %v", got, want)
		}
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		if got := off(); got != 0 {
			t.Errorf("restored: %v off, want 0", got)
		}
	}
}
