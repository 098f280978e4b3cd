package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// stopTimeout is how long Stop waits when its context has no deadline.
	stopTimeout = 10 * time.Second
	// drainTimeout bounds the wait for output after a process has ended, should a stranger hold its pipe open.
	drainTimeout = time.Second
)

// Command says which program to run and how.
type Command struct {
	// Name stands before each line in Log and in errors.
	Name string
	// Path is the program's file, and Args its arguments without the program's name.
	Path string
	Args []string
	// Env is the environment; nil means that of this process.
	Env []string
	// Dir is the working folder; empty means that of this process.
	Dir string
	// User runs the program as another user, which only root may ask for; nil means this process's user.
	User *User
	// Log receives the output, both stdout and stderr, one Write per line; nil means nobody does. What several processes
	// share must be safe for concurrent use, as os.Stderr is. It should not block for long: the program does, too, then.
	Log io.Writer
	// StopSignal asks the program to end; 0 means SIGTERM.
	StopSignal syscall.Signal
	// DeathSignal is what the program's group gets when this process dies without stopping it; 0 means SIGKILL.
	DeathSignal syscall.Signal
}

// Process is a running program. It leads a process group of its own, and the group ends with it.
// Its methods are safe for concurrent use.
type Process struct {
	command  Command
	cmd      *exec.Cmd
	output   *PrefixWriter
	stopping atomic.Bool
	done     chan struct{}
	err      error // set before done is closed
}

// StartProcess starts a program and returns without waiting for anything it does.
func StartProcess(command Command) (*Process, error) {
	if command.StopSignal == 0 {
		command.StopSignal = syscall.SIGTERM
	}
	if command.DeathSignal == 0 {
		command.DeathSignal = syscall.SIGKILL
	}
	prefix := ""
	if command.Name != "" {
		prefix = command.Name + " | "
	}
	// A pipe of our own: with os/exec's, Wait would wait for every grandchild that still holds it.
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	//nolint:gosec,noctx // The caller chose the program; its life ends with Stop, not with a context.
	cmd := exec.Command(command.Path, command.Args...)
	cmd.Env = command.Env
	cmd.Dir = command.Dir
	cmd.Stdout = writer
	cmd.Stderr = writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr, command.DeathSignal)
	if command.User != nil {
		cmd.SysProcAttr.Credential = command.User.credential()
	}
	p := &Process{command: command, cmd: cmd, output: NewPrefixWriter(command.Log, prefix), done: make(chan struct{})}
	err = forker.start(cmd.Start)
	_ = writer.Close()
	if err != nil {
		_ = reader.Close()
		if errors.Is(err, os.ErrPermission) && command.User != nil {
			return nil, fmt.Errorf("start %s as uid %d, who must be able to reach it: %w",
				command.Path, command.User.UID, err)
		}
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	err = guard.set(p, killOrder(command.DeathSignal, -p.PID()))
	go p.wait(reader) // ends with the program; done tells
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	return p, nil
}

// wait reaps the program and what is left of its group.
func (p *Process) wait(output *os.File) {
	copied := make(chan struct{})
	go func() { // ended below
		defer close(copied)
		_, _ = io.Copy(p.output, output)
	}()
	err := p.cmd.Wait()
	// Nobody else may be left in the group: a shell that died leaves its children. The pid cannot be another's yet,
	// since the kernel hands out pids in a circle.
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	_ = guard.set(p, "") // taking an order back cannot go wrong
	_ = output.SetReadDeadline(time.Now().Add(drainTimeout))
	<-copied
	_ = output.Close()
	p.output.Flush()
	forker.release()
	if err != nil {
		p.err = fmt.Errorf("%s: %w", p.cmd.Path, err)
		if tail := p.output.Tail(); tail != "" {
			p.err = fmt.Errorf("%w; it said last:\n%s", p.err, tail)
		}
	}
	close(p.done)
}

// PID returns the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended, and nothing of its group is left.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns nil while the program runs, and when it ended with status 0. Otherwise it returns how the program ended,
// as an error that wraps *exec.ExitError and quotes the end of its output.
func (p *Process) Err() error {
	if p.running() {
		return nil
	}
	return p.err
}

// running says whether the program has not ended yet.
func (p *Process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Output returns the last lines the program has written.
func (p *Process) Output() string { return p.output.Tail() }

// Signal sends a signal to the program alone, not to its group. It returns os.ErrProcessDone when the program has ended.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the program and its group at once, and returns when they are gone.
func (p *Process) Kill() {
	p.stopping.Store(true)
	if !p.running() {
		return
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
}

// Stop asks the program to end, and kills its group when ctx ends first, or after ten seconds if ctx has no deadline.
// It returns nil when the program ended on being asked, whatever its status was: a program that dies of the signal
// obeys too. Stopping what has already ended returns Err.
func (p *Process) Stop(ctx context.Context) error {
	ctx, cancel := bounded(ctx, stopTimeout)
	defer cancel()
	if !p.running() {
		if p.stopping.Load() {
			return nil
		}
		return p.err
	}
	p.stopping.Store(true)
	if err := p.Signal(p.command.StopSignal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	// A stopped process takes no signal but SIGKILL before it continues.
	_ = p.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("stop %s: killed, since it had not ended in time: %w", p.cmd.Path, ctx.Err())
	}
}

// run runs a program to its end. When ctx ends first, the program is killed.
func run(ctx context.Context, command Command) error {
	p, err := StartProcess(command)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("run %s: %w", command.Path, ctx.Err())
	}
}
