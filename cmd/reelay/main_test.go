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
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	// The test binary plays reelay itself, where a test needs a process with signals and pipes of its own.
	switch os.Getenv("PLAY") {
	case "reelay":
		main()
	case "stuck":
		os.Exit(process(stuck))
	case "talking":
		os.Exit(process(talking))
	}
	// Kong wraps help to the width of the terminal, which is told here.
	if err := os.Setenv("COLUMNS", "100"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// stuck is a command that does not end when it should.
func stuck(ctx context.Context, _, _ []string, _ io.Reader, stdout, _ io.Writer) error {
	_, _ = fmt.Fprintln(stdout, "started")
	<-ctx.Done()
	_, _ = fmt.Fprintln(stdout, "told to end")
	select {}
}

// talking is a command that writes to standard error once its standard input has ended.
func talking(_ context.Context, _, _ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if _, err := io.ReadAll(stdin); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stderr, "hello?"); !errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("write to nobody: %w", err)
	}
	_, err := fmt.Fprintln(stdout, "still here")
	return err
}

// play starts the test binary as a process of its own.
func play(t *testing.T, role string, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	// A binary built for coverage complains on standard error where it has no place for its data.
	cmd.Env = append([]string{"PLAY=" + role, "GOCOVERDIR=" + t.TempDir()}, environ...)
	return cmd
}

// result is what a run of the program left behind.
type result struct {
	stdout, stderr string
	code           int
}

// runProgram runs a command to its end in this process.
func runProgram(t *testing.T, p *program, environ []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p.stdout, p.stderr, p.environ = &stdout, &stderr, newEnvironment(environ)
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	code := report(p.run(t.Context(), args), &stderr)
	return result{stdout.String(), stderr.String(), code}
}

// golden compares got with a file, or writes the file with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew)\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"reelay", "serve", "migrate", "watch", "unwatch", "token", "token mint", "token inspect", "tail", "version"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words := strings.Fields(name)
			args := append(slices.Clip(words), "--help")
			if name == "reelay" {
				args = []string{"--help"}
			}
			got := runProgram(t, &program{}, nil, args...)
			if got.code != exitOK || got.stderr != "" {
				t.Errorf("exit code %d with %q on standard error, want 0 and nothing", got.code, got.stderr)
			}
			golden(t, filepath.Join("help", strings.ReplaceAll(name, " ", "_")+".txt"), got.stdout)
			for _, other := range [][]string{append([]string{"help"}, words...), append(slices.Clip(words), "-h")} {
				if name == "reelay" {
					other = map[string][]string{"help": {"help"}, "reelay": {}}[other[0]]
				}
				if again := runProgram(t, &program{}, nil, other...); again.stdout != got.stdout || again.code != exitOK {
					t.Errorf("%v is not the same as --help", other)
				}
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"sreve"}, "did you mean \"serve\"?\nreelay --help explains it"},
		{[]string{"serve", "--lisen", ":80"}, "unknown flag --lisen, did you mean \"--listen\"?\nreelay serve --help explains it"},
		{[]string{"serve", "more"}, "unexpected argument more\nreelay serve --help explains it"},
		{[]string{"watch"}, "expected \"<table>\"\nreelay watch --help explains it"},
		{[]string{"token"}, "missing flags: --user=ID\nreelay token mint --help explains it"},
		{[]string{"token", "--user", "alice", "--ttl", "soon"}, "reelay token --help explains it"},
		{[]string{"token", "inspect"}, "expected \"<token>\"\nreelay token inspect --help explains it"},
		{[]string{"token", "inspect", "-"}, "there is no token\nreelay token inspect --help explains it"},
		{[]string{"tail"}, "no token: set --token (REELAY_TOKEN) or --token-file (REELAY_TOKEN_FILE)\nreelay tail --help explains it"},
		{[]string{"tail", "--token", "-"}, "there is no token on standard input"},
		{[]string{"tail", "--token", "x", "--token-file", "y"}, "are both set; keep one of them"},
		{[]string{"tail", "--token", "x", "--url", "gateway:8080"}, "gateway URL: not of the form https://host[:port]"},
	} {
		got := runProgram(t, &program{}, nil, test.args...)
		if got.code != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%v: exit code %d, output %q, error %q; want 2, none, and an error with %q", test.args, got.code, got.stdout, got.stderr, test.want)
		}
	}
}

func TestReport_TellsExitCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, 0, ""},
		{errors.New("broken"), 1, "reelay: broken\n"},
		{usageError{errors.New("wrong flag"), "reelay --help"}, 2, "reelay: wrong flag\nreelay --help explains it\n"},
		{
			fmt.Errorf("serve: %w", settingsError{{"REELAY_WAKE", "is wrong", "auto"}}), 2,
			"reelay: serve: 1 setting is wrong, nothing was started\n  REELAY_WAKE (--wake): is wrong; for example auto\n",
		},
	} {
		var stderr bytes.Buffer
		if code := report(test.err, &stderr); code != test.code || stderr.String() != test.stderr {
			t.Errorf("report(%v): got %d with %q, want %d with %q", test.err, code, stderr.String(), test.code, test.stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		got := runProgram(t, &program{}, nil, args...)
		if got.code != exitOK || !strings.HasPrefix(got.stdout, "reelay dev (commit ") {
			t.Errorf("%v: exit code %d, output %q", args, got.code, got.stdout)
		}
	}
}

// A gateway outlives whoever reads its log.
func TestProcess_OutlivesItsReader(t *testing.T) {
	t.Parallel()
	cmd := play(t, "talking", nil)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = stderr.Close()
	_ = stdin.Close() // which tells it to talk
	if got, err := io.ReadAll(stdout); err != nil || string(got) != "still here\n" {
		t.Errorf("read %q, %v; want it to go on after it could not write", got, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v, want exit code 0", err)
	}
}

func TestProcess_EndsAtOnceAtTheSecondSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := play(t, "stuck", nil)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"started\n", "told to end\n"} {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(stdout, got); err != nil || string(got) != want {
				t.Fatalf("%v: read %q, %v; want %q", signal, got, err, want)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != signal {
			t.Errorf("the process ended with %v, want the second %v to end it", cmd.ProcessState, signal)
		}
	}
}

// replaceFile changes a file in one step, as whoever rotates a secret does.
func replaceFile(path, content string) error {
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
