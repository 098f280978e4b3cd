package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// direction is one half of a link, as the replica sees it.
type direction int

const (
	// out is from the replica to the server.
	out direction = iota
	// in is from the server to the replica.
	in
)

// proxyBuffer is what the kernel keeps of a link that does not flow. Left alone it grows to megabytes, and a server
// would not notice for as long that nobody reads.
const proxyBuffer = 256 << 10

// proxy is the network between one replica and one server. It can do what a good network never does: swallow
// everything without closing anything, break off, take its time.
//
// It is our own, since it is small, and since its black hole has to be a certain one: it keeps what it swallowed, the end
// of a connection too, until it heals, as TCP does by sending it again.
type proxy struct {
	listener net.Listener
	wait     sync.WaitGroup // of all goroutines

	mu      sync.Mutex
	target  string
	flow    [2]chan struct{} // closed while that direction flows; guarded by mu, as all here
	delay   [2]time.Duration // of each piece
	holding int              // pieces that wait in a black hole
	refuses bool
	links   map[*proxied]struct{}
	ended   bool
}

// proxied is one connection through a proxy.
type proxied struct {
	near, far net.Conn // the replica's side and the server's
	once      sync.Once
	gone      chan struct{}
}

// newProxy listens on a free port of ip and leads to target.
func newProxy(ctx context.Context, ip, target string) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	p := &proxy{listener: listener, target: target, links: make(map[*proxied]struct{})}
	for d := range p.flow {
		p.flow[d] = make(chan struct{})
		close(p.flow[d])
	}
	p.wait.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// retarget makes new connections lead elsewhere. Those there are stay.
func (p *proxy) retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// swallow makes a black hole of these directions, for connections old and new: they stay open, and nothing arrives.
func (p *proxy) swallow(directions ...direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		if flows(p.flow[d]) {
			p.flow[d] = make(chan struct{})
		}
	}
}

// holds says whether something has been swallowed and has not arrived.
func (p *proxy) holds() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holding > 0
}

// slow delays each piece that goes in a direction. A piece is read when the one before it has been delivered, so this
// bounds the throughput, too.
func (p *proxy) slow(d direction, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay[d] = by
}

// cut breaks all connections and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = true
	for l := range p.links {
		l.end()
	}
}

// heal ends whatever swallow, slow and cut began. What was swallowed arrives.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = false
	for d := range p.flow {
		p.delay[d] = 0
		if !flows(p.flow[d]) {
			close(p.flow[d])
		}
	}
}

// close ends the proxy, and returns when nothing of it is left.
func (p *proxy) close() {
	p.mu.Lock()
	p.ended = true
	for l := range p.links {
		l.end()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.wait.Wait()
}

func flows(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wait.Go(func() { p.connect(near) })
	}
}

func (p *proxy) connect(near net.Conn) {
	p.mu.Lock()
	target, refuses := p.target, p.refuses
	p.mu.Unlock()
	if refuses {
		reset(near)
		return
	}
	far, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", target)
	if err != nil {
		reset(near)
		return
	}
	l := &proxied{near: near, far: far, gone: make(chan struct{})}
	for _, side := range []net.Conn{near, far} {
		if tcp, ok := side.(*net.TCPConn); ok {
			_, _ = tcp.SetReadBuffer(proxyBuffer), tcp.SetWriteBuffer(proxyBuffer) // else it hides more, and works
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.refuses {
		l.end()
		return
	}
	p.links[l] = struct{}{}
	p.wait.Go(func() { p.carry(l, far, near, out) })
	p.wait.Go(func() { p.carry(l, near, far, in) })
}

// carry copies one direction until it ends. The end, too, is something that a black hole swallows.
func (p *proxy) carry(l *proxied, to, from net.Conn, d direction) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.pass(l, d) {
			break
		}
		if _, failed := to.Write(buffer[:n]); failed != nil {
			break
		}
		if err == io.EOF { //nolint:errorlint // A reader's end is this very value.
			if tcp, ok := to.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
				return // the other direction may have more to say
			}
		}
		if err != nil {
			break
		}
	}
	l.end()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pass waits until a piece may go on. It reports false when the link has ended.
func (p *proxy) pass(l *proxied, d direction) bool {
	p.mu.Lock()
	flow, delay := p.flow[d], p.delay[d]
	p.mu.Unlock()
	var late <-chan time.Time
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		late = timer.C
	}
	if !p.wade(l, flow) {
		return false
	}
	if late == nil {
		return true
	}
	select {
	case <-late:
		return true
	case <-l.gone:
		return false
	}
}

// wade waits until a direction flows. It reports false when the link has ended.
func (p *proxy) wade(l *proxied, flow chan struct{}) bool {
	if flows(flow) {
		return true
	}
	p.hold(1)
	defer p.hold(-1)
	select {
	case <-flow:
		return true
	case <-l.gone:
		return false
	}
}

func (p *proxy) hold(pieces int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding += pieces
}

// end breaks both sides off.
func (l *proxied) end() {
	l.once.Do(func() {
		close(l.gone)
		reset(l.near)
		reset(l.far)
	})
}

// reset closes a connection as a host does that has forgotten it.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
