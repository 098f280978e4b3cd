package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// family is the pids of the postmaster and its backends, the postmaster first.
type family []int

// processState is one line of the system's table of processes.
type processState struct {
	pid     int
	parent  int
	stopped bool
	dead    bool // and not reaped yet
}

// Pause freezes the server as it stands: the postmaster and all backends get SIGSTOP. Connections stay open and silent,
// new ones are accepted by the kernel and never answered. That is what a frozen host looks like from outside.
func (p *Postgres) Pause() error {
	if p.paused() != nil {
		return nil
	}
	members, err := p.stopFamily()
	if err == nil {
		// A stopped process notices nothing, not even that its parent died.
		err = guard.set(p, killOrder(syscall.SIGKILL, members...))
	}
	if err != nil {
		members.resume()
		return fmt.Errorf("pause Postgres: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = members
	return nil
}

// Resume lets a paused server go on. It does nothing to one that runs.
func (p *Postgres) Resume() error {
	members := p.thaw()
	if members != nil && !p.current().running() {
		return errors.New("resume Postgres: it has ended")
	}
	members.resume()
	return nil
}

// stopFamily stops the postmaster and then its backends. In that order, and only when the postmaster has really
// stopped, nobody is born in between. With an error it returns those that it may have stopped.
func (p *Postgres) stopFamily() (family, error) {
	process := p.current()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	members := family{process.PID()}
	var table []processState
	var failed error
	err := await(ctx, process, func(context.Context) bool {
		table, failed = processTable()
		return failed != nil || slices.ContainsFunc(table, func(s processState) bool {
			return s.pid == process.PID() && s.stopped
		})
	})
	if err = errors.Join(err, failed); err != nil {
		return members, err
	}
	for _, s := range table {
		if s.parent == process.PID() {
			members = append(members, s.pid)
			_ = syscall.Kill(s.pid, syscall.SIGSTOP) // it may have ended by itself
		}
	}
	return members, nil
}

// resume lets all continue, the postmaster last, so that it finds its children as they were.
func (f family) resume() {
	for _, pid := range slices.Backward(f) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// kill ends the backends, whose postmaster is stopped, and then the postmaster. It returns when all are gone.
func (f family) kill(postmaster *Process) {
	for _, pid := range f[min(1, len(f)):] {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	postmaster.Kill()
	// Nobody waits for the backends now but init. SIGKILL cannot be refused, so this takes milliseconds; the limit is
	// for a process that hangs in the kernel.
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for {
		table, err := processTable()
		if err != nil || !slices.ContainsFunc(table, func(s processState) bool { return !s.dead && slices.Contains(f, s.pid) }) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollInterval):
		}
	}
}

// paused returns the processes of a paused server, and nil while it runs.
func (p *Postgres) paused() family {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

// thaw forgets that the server is paused, and returns its processes.
func (p *Postgres) thaw() family {
	p.mu.Lock()
	members := p.frozen
	p.frozen = nil
	p.mu.Unlock()
	_ = guard.set(p, "") // taking an order back cannot go wrong
	return members
}
