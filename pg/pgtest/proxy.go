package pgtest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
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
}

type link struct{ client, server net.Conn }

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
	p := &Proxy{listener: listener, target: target.Host, links: map[*link]struct{}{}}
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

// Thaw lets what was held in the black hole arrive.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
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
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
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
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client, server}
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
		if err := p.copy(l.server, l.client, nil); !errors.Is(err, net.ErrClosed) {
			_ = l.server.Close()
		}
	})
	_ = p.copy(l.client, l.server, rewrite)
	_, _ = l.client.Close(), l.server.Close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// copy copies until reading fails. What cannot be written is lost, as on a network.
func (p *Proxy) copy(to io.Writer, from io.Reader, rewrite func([]byte)) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil && n == 0 {
			p.passing() // the end does not come through either
			return err
		}
		p.passing()
		if rewrite != nil {
			rewrite(buffer[:n])
		}
		_, _ = to.Write(buffer[:n])
	}
}

// passing waits while the proxy is frozen.
func (p *Proxy) passing() {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}
