package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo is a server that returns each line it gets, and tells when a client has left.
type echo struct {
	listener net.Listener
	left     chan error
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: listener, left: make(chan error, 10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, err := io.Copy(conn, conn)
				e.left <- err
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return e
}

func newTestProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p, err := newProxy(t.Context(), "127.0.0.1", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// line is a client that says a line and hears one.
type line struct {
	net.Conn
	t    *testing.T
	read *bufio.Reader
}

func call(t *testing.T, p *proxy) *line {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &line{Conn: conn, t: t, read: bufio.NewReader(conn)}
}

func (l *line) say(words string) {
	l.t.Helper()
	if _, err := io.WriteString(l, words+"\n"); err != nil {
		l.t.Fatalf("say %s: %v", words, err)
	}
}

func (l *line) hear(want string) {
	l.t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, err := l.read.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != want {
		l.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// hearNothing waits for a moment. That nothing was heard in it proves little; the callers prove more by what comes after.
func (l *line) hearNothing() {
	l.t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	got, err := l.read.ReadString('\n')
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		l.t.Fatalf("heard %q, %v; want nothing", got, err)
	}
}

func TestProxy_SwallowsAndBringsIt(t *testing.T) {
	t.Parallel()
	for name, directions := range map[string][]direction{"out": {out}, "in": {in}, "both": {out, in}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestProxy(t, newEcho(t).listener.Addr().String())
			old := call(t, p)
			old.say("one")
			old.hear("one")
			p.swallow(directions...)
			p.swallow(directions...) // twice is once
			old.say("two")
			old.hearNothing()
			young := call(t, p) // accepted, and never answered
			young.say("three")
			young.hearNothing()
			p.heal()
			old.hear("two")
			young.hear("three")
		})
	}
}

func TestProxy_SwallowsAGoodbye(t *testing.T) {
	t.Parallel()
	server := newEcho(t)
	p := newTestProxy(t, server.listener.Addr().String())
	gone, stays := call(t, p), call(t, p)
	gone.say("one")
	gone.hear("one")
	p.swallow(out)
	_ = gone.Close()
	stays.hearNothing()
	select {
	case err := <-server.left:
		t.Fatalf("the server heard of the client's end: %v", err)
	default:
	}
	p.heal()
	select {
	case <-server.left:
	case <-time.After(10 * time.Second):
		t.Fatal("healed, and the server never heard of the client's end")
	}
}

func TestProxy_CutsAndRefuses(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t, newEcho(t).listener.Addr().String())
	old := call(t, p)
	old.say("one")
	old.hear("one")
	p.cut()
	dead := []net.Conn{old}
	// A new one is reset: it depends on who is quicker whether the call itself fails or the first word.
	if young, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address()); err == nil {
		defer young.Close()
		dead = append(dead, young)
	}
	for _, conn := range dead {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		var timeout net.Error
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("cut off, and heard %v", err)
		}
	}
	p.heal()
	again := call(t, p)
	again.say("two")
	again.hear("two")
}

func TestProxy_IsSlowInOneDirection(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t, newEcho(t).listener.Addr().String())
	l := call(t, p)
	p.slow(in, 100*time.Millisecond)
	begin := time.Now()
	l.say("one")
	l.hear("one")
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("came back after %v, want 100ms at least", took)
	}
}

func TestProxy_LeadsElsewhere(t *testing.T) {
	t.Parallel()
	first, second := newEcho(t), newEcho(t)
	p := newTestProxy(t, first.listener.Addr().String())
	_ = first.listener.Close()
	p.retarget(second.listener.Addr().String())
	l := call(t, p)
	l.say("one")
	l.hear("one")
}

func TestProxy_CloseLeavesNothing(t *testing.T) {
	t.Parallel()
	p, err := newProxy(t.Context(), "127.0.0.1", newEcho(t).listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := call(t, p)
	l.say("one")
	l.hear("one")
	p.swallow(out, in)
	p.close() // returns when its goroutines have ended
	if conn, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", p.address()); err == nil {
		_ = conn.Close()
		t.Error("closed, and still listens")
	}
}
