package local

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// guard is a small shell beside this process that ends what is left of our children when this process dies without
// doing it. The kernel's own way (see forker) is quicker and does not depend on another process, but it reaches only
// the child itself, not what that child started, it does not reach a server that is paused, and it is Linux's alone.
//
// The shell reads lines, each of which is what it would have to do now, and does the last one when its input ends:
// only this process holds the other end of that pipe. It runs while there is something to do.
var guard watchman

type watchman struct {
	mu     sync.Mutex
	orders map[any]string // guarded by mu; shell commands, by whom they are about
	shell  *exec.Cmd      // guarded by mu; nil while there are no orders
	pipe   io.WriteCloser // guarded by mu
}

// A signal from the terminal must not end it, and it must not hold a folder by standing in it.
const guardScript = `trap '' INT QUIT HUP TERM; cd /; last=; while read -r line; do last=$line; done; eval "$last"`

// set says what to do about key should this process die. An empty order means nothing (any more).
func (w *watchman) set(key any, order string) error {
	// The lock is held while writing: the shell reads at once, and lines must not overtake each other.
	w.mu.Lock()
	defer w.mu.Unlock()
	if order == "" {
		delete(w.orders, key)
	} else {
		if w.orders == nil {
			w.orders = map[any]string{}
		}
		w.orders[key] = order
	}
	if w.shell == nil {
		if order == "" {
			return nil
		}
		if err := w.start(); err != nil {
			delete(w.orders, key)
			return fmt.Errorf("start the guard of child processes: %w", err)
		}
	}
	var line strings.Builder
	for _, order := range w.orders {
		line.WriteString(order + "; ")
	}
	// If somebody ended the shell this fails, and nothing is lost but the guard.
	_, _ = io.WriteString(w.pipe, line.String()+"\n")
	if len(w.orders) == 0 {
		_ = w.pipe.Close()
		_ = w.shell.Wait()
		w.shell = nil
	}
	return nil
}

// start starts the shell. The caller holds mu.
func (w *watchman) start() error {
	shell := exec.Command("/bin/sh", "-c", guardScript) //nolint:noctx // It ends with the last order.
	shell.Env = []string{}
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := shell.StdinPipe()
	if err != nil {
		return err
	}
	if err := shell.Start(); err != nil {
		return err
	}
	w.shell, w.pipe = shell, pipe
	return nil
}

// killOrder is the shell command that sends a signal to processes, or, with a minus before the number, to groups.
// (Not "kill -9 -- -1234", which dash does not know.)
func killOrder(sig syscall.Signal, pids ...int) string {
	return fmt.Sprintf("kill -%d %s", int(sig), strings.Trim(fmt.Sprint(pids), "[]"))
}
