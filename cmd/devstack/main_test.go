package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestParseOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want options
		err  string
	}{
		"defaults":       {nil, options{port: 8080, replicas: 2, transcoder: true}, ""},
		"all":            {[]string{"--port", "9000", "--replicas=3", "--transcoder=false", "--quiet"}, options{port: 9000, replicas: 3, quiet: true}, ""},
		"no replica":     {[]string{"--replicas", "0"}, options{}, "--replicas 0: must be 1 to 3"},
		"many replicas":  {[]string{"--replicas", "4"}, options{}, "--replicas 4: must be 1 to 3"},
		"no port":        {[]string{"--port", "0"}, options{}, "--port 0: a port is"},
		"not a port":     {[]string{"--port", "x"}, options{}, "devstack --help explains"},
		"an argument":    {[]string{"up"}, options{}, `unexpected argument "up"`},
		"unknown flag":   {[]string{"--fast"}, options{}, "devstack --help explains"},
		"transcoder=xyz": {[]string{"--transcoder=xyz"}, options{}, "devstack --help explains"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseOptions(test.args, io.Discard)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error = %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestParseOptions_HelpTeaches(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := parseOptions([]string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("error = %v, want flag.ErrHelp", err)
	}
	for _, want := range []string{"make run", "Ctrl-C", "-port", "-replicas", "-transcoder", "-quiet"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help does not mention %s", want)
		}
	}
}

func TestNextFreePort_PassesOverTakenOnes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address, _ := taken.Addr().(*net.TCPAddr)
	got, err := nextFreePort(t.Context(), address.Port)
	if err != nil || got <= address.Port || got > address.Port+portsAhead {
		t.Errorf("got %d, %v, want a port above %d", got, err, address.Port)
	}
}

func TestFreePorts_AreDifferentAndCanBeUsed(t *testing.T) {
	t.Parallel()
	ports, err := freePorts(t.Context(), 6)
	if err != nil || len(ports) != 6 {
		t.Fatalf("got %v, %v, want 6 ports", ports, err)
	}
	for _, port := range ports {
		// Listening on all of them at once shows both.
		listener, err := listen(t.Context(), port)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
	}
}

func TestFolder_OfADeadMakerIsSweptAndOthersAreNot(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	living := filepath.Join(parent, folderPrefix+"living")
	dead := filepath.Join(parent, folderPrefix+"dead")
	foreign := filepath.Join(parent, "reelay-notes")
	for _, path := range []string{living, dead, foreign} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, lockName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock := lockFile(t, filepath.Join(living, lockName))
	defer func() { _ = lock.Close() }()

	sweep(parent)
	for path, want := range map[string]bool{living: true, dead: false, foreign: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", filepath.Base(path), err == nil, want)
		}
	}
}

func TestFolder_IsHeldWhileItsMakerLives(t *testing.T) {
	t.Parallel()
	f, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	sweep(filepath.Dir(f.path))
	if _, err := os.Stat(f.file(lockName)); err != nil {
		t.Errorf("the folder of a living maker was swept: %v", err)
	}
	if err := f.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.path); !os.IsNotExist(err) {
		t.Errorf("after remove: %v, want no folder", err)
	}
}

func TestProgress_RepeatsAStepThatWasInterrupted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{out: &out}
	err := p.step("stopping", func() error {
		p.sayf("reelay-1 ended")
		return nil
	})
	lines := strings.Split(out.String(), "\n")
	if err != nil || len(lines) != 4 || lines[1] != "reelay-1 ended" || !strings.HasPrefix(lines[2], "  stopping ") || !strings.HasSuffix(lines[2], " s") {
		t.Errorf("error %v, lines %q, want the news on a line of its own and the step's name again", err, lines)
	}
}

func TestWriteTable_LinesUp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	writeTable(&out, []row{{"Redis", "redis://127.0.0.1:1", 7, "redis.log"}, {"example app", "x", 12345, ""}})
	want := "" +
		"  WHAT          WHERE                 PID     LOG\n" +
		"  Redis         redis://127.0.0.1:1   7       redis.log\n" +
		"  example app   x                     12345   -\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

func TestNewID_SortsByTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	last := ""
	for i := range 50 {
		id := newID(now.Add(time.Duration(i) * 100 * time.Millisecond))
		if id <= last || len(id) != 14 {
			t.Fatalf("id %q after %q, want 14 letters that sort behind it", id, last)
		}
		last = id
	}
}

// lockFile locks a file as the living maker of a folder does.
func lockFile(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return file
}
