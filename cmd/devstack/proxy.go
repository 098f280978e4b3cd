package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// checkInterval and checkFailures say when an upstream is down: as in deploy/haproxy.cfg, within some seconds.
	checkInterval = time.Second
	checkFailures = 2
	dialTimeout   = 2 * time.Second
)

// health is what a check has found out.
type health int

const (
	ready    health = iota // takes clients
	notReady               // takes no new ones and keeps those it has: it drains, or waits for Postgres
	silent                 // did not answer
)

// errNoUpstream is what a client gets to hear as 503.
var errNoUpstream = errors.New("no upstream is ready")

// pool is a small load balancer, for machines without HAProxy: round robin over the upstreams that are ready. Requests,
// streams and WebSockets go through it unchanged, save for the X-Forwarded headers.
type pool struct {
	upstreams []*upstream
	next      atomic.Uint64
	proxy     *httputil.ReverseProxy
}

// upstream is one server behind a pool.
type upstream struct {
	address  string
	readyURL string // is asked for its health; empty means always ready

	mu       sync.Mutex
	takes    bool               // guarded by mu; new clients
	failures int                // guarded by mu; in a row
	life     context.Context    // guarded by mu; ends when the upstream goes down, and with it all that goes through it
	end      context.CancelFunc // guarded by mu
}

func newUpstream(address, readyURL string) *upstream {
	u := &upstream{address: address, readyURL: readyURL, takes: true}
	u.life, u.end = context.WithCancel(context.Background())
	return u
}

func newPool(upstreams []*upstream) *pool {
	p := &pool{upstreams: upstreams}
	p.proxy = &httputil.ReverseProxy{
		Transport: &balancing{pool: p, transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
			// A WebSocket or a stream keeps its connection to itself: reuse would gain nothing.
			DisableKeepAlives: true,
			// What the upstream compressed, or did not, is passed on as it is.
			DisableCompression: true,
		}},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.Host = r.In.Host
			r.Out.URL.Scheme = "http"
			r.Out.URL.Host = r.In.Host // balancing puts the upstream's here
		},
		FlushInterval: -1, // each event of a stream at once
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if errors.Is(err, errNoUpstream) {
				status = http.StatusServiceUnavailable
				w.Header().Set("Retry-After", "1")
			}
			http.Error(w, http.StatusText(status), status)
		},
		// Clients that leave in the middle are no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *pool) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.proxy.ServeHTTP(w, r) }

// check asks every upstream for its health until ctx ends.
func (p *pool) check(ctx context.Context) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		var all sync.WaitGroup
		for _, u := range p.upstreams {
			all.Go(func() { u.heard(probe(ctx, u.readyURL)) })
		}
		all.Wait()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pick returns an upstream that takes new clients and is not in tried, or nil.
func (p *pool) pick(tried map[*upstream]bool) (*upstream, context.Context) {
	first := p.next.Add(1)
	for i := range p.upstreams {
		u := p.upstreams[(first+uint64(i))%uint64(len(p.upstreams))]
		if life, takes := u.state(); takes && !tried[u] {
			return u, life
		}
	}
	return nil, nil
}

func (u *upstream) state() (life context.Context, takes bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.life, u.takes
}

// heard takes the result of a check. An upstream that stays silent takes its sessions with it, so that their clients
// come back at once, to another one.
func (u *upstream) heard(h health) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if h == silent {
		u.failures++
		if u.failures == checkFailures {
			u.takes = false
			u.end()
		}
		return
	}
	u.failures = 0
	u.takes = h == ready
	if u.life.Err() != nil {
		u.life, u.end = context.WithCancel(context.Background())
	}
}

// balancing sends each request to an upstream.
type balancing struct {
	pool      *pool
	transport *http.Transport
}

// RoundTrip implements http.RoundTripper. A refused connection is tried at the next upstream, which is safe for every
// method since nothing was sent. A request that reached an upstream is never repeated.
func (b *balancing) RoundTrip(request *http.Request) (*http.Response, error) {
	tried := make(map[*upstream]bool)
	for {
		u, life := b.pool.pick(tried)
		if u == nil {
			return nil, errNoUpstream
		}
		tried[u] = true
		response, err := b.try(life, u, request)
		if err == nil || !refused(err) || request.Body != nil && request.Body != http.NoBody {
			return response, err
		}
	}
}

// try sends the request to one upstream. What comes of it ends with the upstream's life.
func (b *balancing) try(life context.Context, u *upstream, request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(request.Context())
	unhook := context.AfterFunc(life, cancel)
	attempt := request.Clone(ctx)
	attempt.URL.Host = u.address
	response, err := b.transport.RoundTrip(attempt)
	if err != nil {
		unhook()
		cancel()
		return nil, err //nolint:wrapcheck // ReverseProxy's ErrorHandler is the one reader.
	}
	if conn, switched := response.Body.(io.ReadWriteCloser); switched {
		// A connection that switched its protocol has outgrown its request's context: it has to be closed itself.
		unhook()
		unhook = context.AfterFunc(life, func() { _ = conn.Close() })
		response.Body = &hookedConn{conn, func() { unhook(); cancel() }}
	} else {
		response.Body = &hookedBody{response.Body, func() { unhook(); cancel() }}
	}
	return response, nil
}

// refused says whether an upstream could not be reached at all.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// hookedConn and hookedBody call done when they are closed. The body of a switched protocol is a connection that can
// be written to as well, and has to stay one.
type hookedConn struct {
	io.ReadWriteCloser

	done func()
}

// Close implements io.Closer.
func (h *hookedConn) Close() error {
	defer h.done()
	return h.ReadWriteCloser.Close() //nolint:wrapcheck // It stands in for what it wraps.
}

type hookedBody struct {
	io.ReadCloser

	done func()
}

// Close implements io.Closer.
func (h *hookedBody) Close() error {
	defer h.done()
	return h.ReadCloser.Close() //nolint:wrapcheck // It stands in for what it wraps.
}
