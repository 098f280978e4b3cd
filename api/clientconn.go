package api

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// errUntaken says that the client has taken nothing of what was written in time.
var errUntaken = errors.New("nothing was taken")

// clientConn is a client's connection, as loads are written to it.
type clientConn struct {
	net.Conn
	raw syscall.RawConn // nil where the system has no part in it
}

func newClientConn(conn net.Conn) clientConn {
	c := clientConn{Conn: conn}
	if system, ok := conn.(syscall.Conn); ok {
		if raw, err := system.SyscallConn(); err == nil { // without it all works, and costs more
			c.raw = raw
		}
	}
	return c
}

// write writes in the turn of a load. Nearly always the kernel takes all of it at once, and then there is nothing to wait
// for, and no need of a deadline; of the deadlines for each write there would be no end.
func (c *clientConn) write(p []byte, l *load) error {
	if c.raw != nil {
		if p = p[l.attempt.write(c.raw, p):]; len(p) == 0 {
			return nil
		}
	}
	l.stall()
	return c.wait(p, time.Now().Add(writeLimit))
}

// wait writes and waits for the client, until a moment.
func (c *clientConn) wait(p []byte, until time.Time) error {
	if err := c.Conn.SetWriteDeadline(until); err != nil {
		return err
	}
	n, err := c.Conn.Write(p)
	if err != nil && n == 0 && isTimeout(err) {
		return fmt.Errorf("%w: %w", errUntaken, err)
	} else if err != nil {
		return err
	}
	return c.Conn.SetWriteDeadline(time.Time{}) // an attempt would fail after a deadline that has passed
}

// attempt writes as much as the kernel takes without waiting.
type attempt struct {
	once  func(fd uintptr) bool // the method of that name: to make it anew each time is an allocation
	bytes []byte
	wrote int
}

// write returns how much was written. Why it was not all, the next write tells.
func (a *attempt) write(to syscall.RawConn, p []byte) int {
	if a.once == nil {
		a.once = a.writeOnce
	}
	a.bytes, a.wrote = p, 0
	_ = to.Write(a.once)
	a.bytes = nil
	return a.wrote
}

func (a *attempt) writeOnce(fd uintptr) bool {
	if n, err := syscall.Write(int(fd), a.bytes); err == nil {
		a.wrote = n
	}
	return true // not to be called again
}
