package pgtest

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// fillers is more connections than a queue of length 0 holds.
	fillers = 4
	// fillLimit is how long a SYN on this host may take to be answered.
	fillLimit = 200 * time.Millisecond
	// backlog is how long the queue is otherwise.
	backlog = 128
)

// deafen fills the queue of connections that wait to be accepted, which it makes as short as can be, and has nobody
// accept them: then the kernel drops further SYNs, as a host does that is not there. Accept returns an error that is
// os.ErrDeadlineExceeded.
func deafen(listener net.Listener) error {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return errors.New("not a TCP listener")
	}
	if err := tcp.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	if err := queue(tcp, 0); err != nil {
		return err
	}
	for range fillers {
		ctx, cancel := context.WithTimeout(context.Background(), fillLimit)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		cancel()
		switch {
		case err == nil:
			_ = conn.Close() // it keeps its place in the queue
		case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
			return nil
		default:
			return err
		}
	}
	return errors.New("the kernel accepts connections all the same")
}

// undeafen undoes it.
func undeafen(listener net.Listener) {
	if tcp, ok := listener.(*net.TCPListener); ok {
		_ = queue(tcp, backlog) // a queue that stays short is slow, and no worse
		_ = tcp.SetDeadline(time.Time{})
	}
}

// queue sets how many connections may wait to be accepted: to listen again does that.
func queue(tcp *net.TCPListener, length int) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), length) }); err != nil {
		return err
	}
	return failed
}
