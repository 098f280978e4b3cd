package redisbus_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between a bus and Redis, and plays a network that swallows packets: what it holds it neither passes on
// nor refuses, and no socket is closed.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	stuck atomic.Int32 // how much that clients said is held

	mu    sync.Mutex
	gates []*gate    // guarded by mu; of the connections so far
	held  bool       // guarded by mu; new connections are held too
	conns []net.Conn // guarded by mu
	trap  []byte     // guarded by mu; holds the connection on which a client says it
	fell  chan struct{}
}

// gate is open or shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // guarded by mu; closed while the gate is open
}

func newGate(open bool) *gate {
	g := &gate{open: make(chan struct{})}
	if open {
		close(g.open)
	}
	return g
}

func (g *gate) passage() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) unlock() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveProxy(t, listener, target)
}

// newTLSProxy returns a proxy that speaks TLS with its clients, by a certificate that nobody trusts.
func newTLSProxy(t *testing.T, target string) *proxy {
	t.Helper()
	lender := httptest.NewTLSServer(nil) // it has a certificate
	config := lender.TLS.Clone()
	config.NextProtos = nil
	lender.Close()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveProxy(t, tls.NewListener(listener, config), target)
}

func serveProxy(t *testing.T, listener net.Listener, target string) *proxy {
	t.Helper()
	p := &proxy{listener: listener, target: target}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.release()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.mu.Lock()
		g := newGate(!p.held)
		p.gates = append(p.gates, g)
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(far, near, g, true) })
		p.wg.Go(func() { p.pass(near, far, g, false) })
	}
}

// pass copies in one direction. What it has read when the gate shuts it keeps until the gate opens.
func (p *proxy) pass(to, from net.Conn, g *gate, fromClient bool) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		first := 0
		if fromClient {
			first = p.spring(buf[:n], g)
		}
		if _, err := to.Write(buf[:first]); err != nil {
			return
		}
		if fromClient && n > 0 {
			p.stuck.Add(1)
		}
		<-g.passage()
		if fromClient && n > 0 {
			p.stuck.Add(-1)
		}
		if _, err := to.Write(buf[first:n]); err != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// holdAt holds, once, the connection on which a client says something, just before the command that says it. The
// channel is closed when that has happened.
func (p *proxy) holdAt(something string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap, p.fell = []byte(something), make(chan struct{})
	return p.fell
}

// spring shuts the gate if the trap is in what is said, and returns how much of it may pass at once.
func (p *proxy) spring(said []byte, g *gate) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trap == nil || !bytes.Contains(said, p.trap) {
		return 0
	}
	before := bytes.LastIndex(said[:bytes.Index(said, p.trap)], []byte("*")) // a command begins with *
	p.trap = nil
	g.shut()
	close(p.fell)
	return before
}

// used says whether anybody has connected.
func (p *proxy) used() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) > 0
}

// hold stops all traffic, on new connections too.
func (p *proxy) hold() {
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	p.holdExisting()
}

// holdExisting stops the traffic of the connections that there are. New ones work.
func (p *proxy) holdExisting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.gates {
		g.shut()
	}
}

// release lets everything pass again, what was held first.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	for _, g := range p.gates {
		g.unlock()
	}
}
