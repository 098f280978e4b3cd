package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// build makes the gateway and this program, as make does.
func build(t *testing.T) (folder string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	// Not t.TempDir: its name is too long for the sockets of servers, and Postgres's own user may not pass through.
	folder, err := os.MkdirTemp("", "rb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command("go", "build", "-tags", "nomsgpack", "-o", folder+"/", "../reelay", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return folder
}

func TestBench_MeasuresWithNothingLost(t *testing.T) {
	t.Parallel()
	folder := build(t)
	file := filepath.Join(folder, "bench.json")
	command := exec.Command(filepath.Join(folder, "bench"), "--quick", "--connections", "200", "--json", file, "--steady", "5s", "latency", "storm", "steady")
	if output, err := command.CombinedOutput(); err != nil { // not 0 if anything is lost or comes twice
		t.Fatalf("%v\n%s", err, output)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Tables []struct {
			Name string
			Rows []struct {
				Case, Rate, Way, After                  string
				P50, Whole, Commits, Outbox, Log, State float64
			}
		}
	}
	if err := json.Unmarshal(content, &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Tables) != 3 || len(report.Tables[0].Rows) != 12 || len(report.Tables[1].Rows) != 6 || len(report.Tables[2].Rows) != 13 {
		t.Fatalf("got %+v, want the tables latency, storm and steady with all their rows", report)
	}
	for _, r := range report.Tables[0].Rows {
		if r.P50 <= 0 {
			t.Errorf("latency, %s, %s: p50 is %g ms, want some", r.Rate, r.Way, r.P50)
		}
	}
	for _, r := range report.Tables[2].Rows[1:12] {
		if r.P50 <= 0 || r.Commits < 100 || r.Outbox <= 0 || r.Log <= 0 || r.State <= 0 {
			t.Errorf("steady after %s: got %+v, want all figures, and most of 1,000 commits a second", r.After, r)
		}
	}
}

func TestBench_LeavesNothingBehindWhenInterrupted(t *testing.T) {
	t.Parallel()
	folder := build(t)
	temporary := filepath.Join(folder, "tmp")
	if err := os.Mkdir(temporary, 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(filepath.Join(folder, "bench"), "--time", "1m", "writers")
	command.Env = append(os.Environ(), "TMPDIR="+temporary)
	progress, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	said := readUntil(t, progress, regexp.MustCompile(`1 clients, no trigger`))
	if made, _ := os.ReadDir(temporary); len(made) == 0 {
		t.Error("no folder is made where it is looked for: the test would prove nothing")
	}
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest := readUntil(t, progress, regexp.MustCompile(`interrupted`))
	err = command.Wait()
	if code := command.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d (%v), want 130; it said %s", code, err, said+rest)
	}
	if left, _ := os.ReadDir(temporary); len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v", left)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		content, _ := os.ReadFile(file)
		if strings.Contains(string(content), folder) {
			t.Errorf("still running: %s", strings.ReplaceAll(string(content), "\x00", " "))
		}
	}
}

// readUntil reads what a program says, until it has said what is waited for.
func readUntil(t *testing.T, from interface{ Read([]byte) (int, error) }, want *regexp.Regexp) (said string) {
	t.Helper()
	buffer := make([]byte, 4096)
	for !want.MatchString(said) {
		n, err := from.Read(buffer)
		said += string(buffer[:n])
		if err != nil && !want.MatchString(said) {
			t.Fatalf("it ended (%v) and had not said %s: %s", err, want, said)
		}
	}
	return said
}
