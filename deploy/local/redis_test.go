package local_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/deploy/local"
)

func startRedis(t *testing.T, options local.Options) *local.Redis {
	t.Helper()
	needsServers(t)
	r, err := local.StartRedis(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// ask sends one command in Redis's inline form and returns the answer's line, or the lines of a list.
func ask(t *testing.T, network, address, command string) string {
	t.Helper()
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	answer, rest := "", 1
	for ; rest > 0; rest-- {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if n, isList := strings.CutPrefix(strings.TrimSpace(line), "*"); isList {
			members, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			rest += 2 * members // each is its length, and itself
		}
		answer += line
	}
	return strings.TrimSpace(answer)
}

func socketOf(t *testing.T, r *local.Redis) string {
	t.Helper()
	u, err := url.Parse(r.SocketURL())
	if err != nil || u.Scheme != "unix" {
		t.Fatalf("got %v, %v", u, err)
	}
	return u.Path
}

func TestRedis_AnswersOnBothAddresses(t *testing.T) {
	t.Parallel()
	r := startRedis(t, local.Options{Settings: map[string]string{
		"maxclients": "77", "client-output-buffer-limit": "pubsub 1mb 512kb 7",
	}})
	if want := "redis://" + r.Addr() + "/0"; r.URL() != want {
		t.Fatalf("got %s, want %s", r.URL(), want)
	}
	if got := ask(t, "tcp", r.Addr(), "SET key value"); got != "+OK" {
		t.Fatalf("got %q", got)
	}
	if got := ask(t, "unix", socketOf(t, r), "EXISTS key"); got != ":1" {
		t.Fatalf("got %q", got)
	}
	for setting, want := range map[string]string{"maxclients": "77", "client-output-buffer-limit": "pubsub 1048576 524288 7"} {
		if got := ask(t, "tcp", r.Addr(), "CONFIG GET "+setting); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", setting, got, want)
		}
	}
}

func TestRedis_KillAndStartComeBackEmptyOnTheSamePort(t *testing.T) {
	t.Parallel()
	r := startRedis(t, local.Options{})
	ask(t, "tcp", r.Addr(), "SET key value")
	before, at, done := r.PID(), r.URL(), r.Done()
	if err := r.Start(t.Context()); err == nil {
		t.Fatal("got nil for a second Start")
	}
	r.Kill()
	<-done
	if !gone(t, before) {
		t.Fatal("the server is left after Kill")
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.URL() != at || r.PID() == before {
		t.Fatalf("got %s pid %d, want %s and another than %d", r.URL(), r.PID(), at, before)
	}
	if got := ask(t, "tcp", r.Addr(), "EXISTS key"); got != ":0" {
		t.Fatalf("got %q, want an empty server", got)
	}
}

func TestRedis_PauseAndResume(t *testing.T) {
	t.Parallel()
	r := startRedis(t, local.Options{})
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is stopped", func() bool {
		_, stopped, err := local.ProcessTable()
		return err == nil && stopped[r.PID()]
	})
	answer := make(chan string, 1)
	address := r.Addr()
	go func() { answer <- ask(t, "tcp", address, "PING") }() // ends when the server goes on
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "+PONG" {
		t.Fatalf("got %q", got)
	}
}

func TestRedis_StopRemovesTheFolderWhateverItsState(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*local.Redis) error{
		"running": func(*local.Redis) error { return nil },
		"paused":  (*local.Redis).Pause,
		"killed":  func(r *local.Redis) error { r.Kill(); return nil },
		"stopped": func(r *local.Redis) error { return r.Stop(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := startRedis(t, local.Options{})
			if err := prepare(r); err != nil {
				t.Fatal(err)
			}
			if err := r.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Dir(socketOf(t, r))); !os.IsNotExist(err) {
				t.Fatalf("the folder: got %v, want it removed", err)
			}
			if !gone(t, r.PID()) {
				t.Fatal("the server is left")
			}
		})
	}
}
