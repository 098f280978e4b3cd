package pgtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
)

// Proxy is a network between a test's client and Postgres, for what a good network never does.
type Proxy struct {
	listener net.Listener
	target   string
	url      string
	wait     sync.WaitGroup // of all goroutines; close waits

	mu      sync.Mutex
	links   map[*link]struct{} // guarded by mu
	frozen  chan struct{}      // guarded by mu; nil while data flows, closed when it flows again
	rewrite func([]byte)       // guarded by mu; nil where nothing is changed
	closed  bool               // guarded by mu
	deaf    bool               // guarded by mu; new connections are not even accepted
	ended   chan struct{}      // closed by close
}

type link struct {
	client, server net.Conn
	dead           bool // guarded by Proxy.mu; nothing will ever come through again
}

// NewProxy puts a proxy before the server that a database URL names. It ends with the test.
func NewProxy(t testing.TB, databaseURL string) *Proxy {
	t.Helper()
	target, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	p := &Proxy{listener: listener, target: target.Host, links: map[*link]struct{}{}, ended: make(chan struct{})}
	target.Host = listener.Addr().String()
	p.url = target.String()
	p.wait.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// URL leads to the database through the proxy.
func (p *Proxy) URL() string { return p.url }

// Rewrite has f change, in place, each piece that the server sends on connections that are made from now on.
func (p *Proxy) Rewrite(f func(piece []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewrite = f
}

// Freeze makes a black hole of all connections, old and new: they stay open, and nothing comes through.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// Unplug makes a black hole of all connections, as Freeze does, and new ones are not even accepted: who connects gets no
// answer to its SYN.
func (p *Proxy) Unplug(t testing.TB) {
	t.Helper()
	p.Freeze()
	p.mu.Lock()
	p.deaf = true
	p.mu.Unlock()
	if err := deafen(p.listener); err != nil {
		t.Fatalf("proxy: %v", err)
	}
}

// Thaw lets what was held in the black hole arrive, and new connections in.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thaw()
}

// Replace ends the black hole for new connections alone: those there are stay open, and nothing ever comes through
// them again. So it is when the network comes back by another way.
func (p *Proxy) Replace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.dead = true
	}
	p.thaw()
}

func (p *Proxy) thaw() {
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
	if p.deaf {
		p.deaf = false
		undeafen(p.listener)
	}
}

// CutClients closes the clients' side of all connections. The server hears nothing of it: no FIN, no RST, as when the
// client's host vanished and came back.
func (p *Proxy) CutClients() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		_ = l.client.Close()
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	close(p.ended)
	p.thaw()
	for l := range p.links {
		_, _ = l.client.Close(), l.server.Close()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.wait.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) && p.passing(nil) {
			continue
		}
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		if p.closed {
			_, _ = client.Close(), server.Close()
		} else {
			rewrite := p.rewrite
			p.links[l] = struct{}{}
			p.wait.Go(func() { p.carry(l, rewrite) })
		}
		p.mu.Unlock()
	}
}

// carry lives as long as the server's side of a connection: that of the client may end without the server knowing.
func (p *Proxy) carry(l *link, rewrite func([]byte)) {
	p.wait.Go(func() {
		// A client that leaves is heard; one that CutClients cut off is not.
		if err := p.copy(l, l.server, l.client, nil); !errors.Is(err, net.ErrClosed) {
			_ = l.server.Close()
		}
	})
	_ = p.copy(l, l.client, l.server, rewrite)
	_, _ = l.client.Close(), l.server.Close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// copy copies until reading fails. What cannot be written is lost, as on a network.
func (p *Proxy) copy(l *link, to io.Writer, from io.Reader, rewrite func([]byte)) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if passes := p.passing(l); !passes || err != nil && n == 0 { // the end does not come through either
			return err
		}
		if rewrite != nil {
			rewrite(buffer[:n])
		}
		_, _ = to.Write(buffer[:n])
	}
}

// passing waits while the proxy is frozen, or a link is dead. It reports false when the proxy has ended.
func (p *Proxy) passing(l *link) bool {
	for {
		p.mu.Lock()
		frozen := p.frozen
		if l != nil && l.dead {
			frozen = make(chan struct{}) // for ever
		}
		p.mu.Unlock()
		if frozen == nil {
			return true
		}
		select {
		case <-frozen: // and perhaps frozen again, or dead
		case <-p.ended:
			return false
		}
	}
}
