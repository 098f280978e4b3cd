package local_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/reelay/reelay/deploy/local"
)

// The kernel ties a child to the thread that forked it, and Go ends threads as it likes.
func TestProcess_SurvivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	// Two at a time, since Go does not end the process's first thread, and one of them may be on it.
	type child struct {
		process *local.Process
		log     *lines
		thread  int
	}
	children := make(chan child, 2)
	var both sync.WaitGroup
	both.Add(2)
	for range 2 {
		log := newLines(t)
		go func() { // ends at once, and its thread with it, since it does not unlock it
			runtime.LockOSThread()
			both.Done()
			both.Wait()
			p, err := local.StartProcess(local.Command{
				Path: "/bin/sh", Args: []string{"-c", "trap 'echo marker' USR1; echo up; while :; do sleep 1 & wait; done"}, Log: log,
			})
			if err != nil {
				t.Error(err)
			}
			children <- child{p, log, syscall.Gettid()}
		}()
	}
	for range 2 {
		c := <-children
		if c.process == nil {
			return
		}
		t.Cleanup(c.process.Kill)
		if c.thread != os.Getpid() {
			eventually(t, "the thread has ended", func() bool {
				_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", c.thread))
				return os.IsNotExist(err)
			})
		}
		c.log.wait(t, "up")
		if err := c.process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		c.log.wait(t, "marker")
	}
}

func TestProcess_NothingSurvivesASIGKILLOfThisProcess(t *testing.T) {
	t.Parallel()
	needsServers(t)
	for _, state := range []string{"running", "paused"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			log := newLines(t)
			helper, err := local.StartProcess(local.Command{
				Path: os.Args[0], Env: append(os.Environ(), helperEnv+"="+state), Log: log,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(helper.Kill)
			folder := strings.TrimPrefix(log.wait(t, "folder "), "folder ")
			log.wait(t, "ready")
			family := descendants(t, helper.PID())
			if len(family) < 8 { // postmaster, its five or more, redis, sh, sleep
				t.Fatalf("got %d processes below the helper, want more", len(family))
			}
			if err := helper.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-helper.Done()
			for _, pid := range family {
				eventually(t, fmt.Sprintf("process %d of the killed parent is gone", pid), func() bool { return gone(t, pid) })
			}
			// What the killed one left on disk goes with the next start.
			redis, err := local.StartRedis(t.Context(), local.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := redis.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(folder); !os.IsNotExist(err) {
				t.Fatalf("folder %s of the killed process: got %v, want it removed", folder, err)
			}
		})
	}
}

// The other tests run as whoever runs them. When that is root, the servers' life is tried as an ordinary user too.
func TestPostgres_WorksForAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	needsServers(t)
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user: all the other tests show it")
	}
	user, err := local.ServerUser()
	if err != nil {
		t.Fatal(err)
	}
	// Where go test puts its binary, others may not go.
	dir, err := os.MkdirTemp("/tmp", "localtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "local.test")
	if err := copyFile(binary, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	p, err := local.StartProcess(local.Command{
		Path: binary, Args: []string{"-test.run=^TestPostgres_(Restart|Kill|Pause|StopKills)|^TestRedis_", "-test.v"},
		Dir: "/", User: user, Log: t.Output(), Env: append(os.Environ(), "HOME=/", "TMPDIR=/tmp"),
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.Output(), "no tests to run") {
		t.Fatal("no tests were run")
	}
}

func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}
