package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/olahol/melody"
	"golang.org/x/time/rate"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

const (
	// answerLimit is how long an answer may take, waiting included. Those who follow have limits of their own.
	answerLimit = waitMost + 30*time.Second
	// drainFor is the time over which sockets are closed when the server ends.
	drainFor = 2 * time.Second
	// drainLimit is how long the server waits after that for requests that are not sockets.
	drainLimit = 5 * time.Second
)

// verifier turns a token into a principal; see auth.Verifier. Its methods are safe for concurrent use.
type verifier interface {
	// Verify returns whose token it is. It refuses one that was revoked.
	Verify(token string) (auth.Principal, error)
	// Check returns an error if the principal was revoked since.
	Check(principal auth.Principal) error
	Leeway() time.Duration
}

// Config is what a Server is made of.
type Config struct {
	// Listener is where it serves. Run closes it.
	Listener net.Listener
	// AllowedOrigins are the pages that may connect, as scheme://host[:port]; "*" allows all. Empty: pages of the host itself.
	AllowedOrigins []string
	// Cookie is the name of a cookie that may hold a token; empty: cookies mean nothing.
	Cookie string
	// TokenInURL allows a token as ?access_token=.
	TokenInURL bool
	// TrustedProxies are the addresses or networks whose X-Forwarded-For is believed.
	TrustedProxies []string
	// Limits bounds what clients may take; see DefaultLimits.
	Limits Limits
	// Tickets keeps tickets for all replicas; nil: this is the only one.
	Tickets TicketStore
	// Replica is what clients are told this replica is called; may be empty.
	Replica  string
	Verifier verifier
	Hub      *hub.Hub
	Log      *slog.Logger
	Metrics  *Metrics
}

// Server serves the public port. Its one method for others is Run.
type Server struct {
	listener   net.Listener
	origins    []string
	cookie     string
	tokenInURL bool
	proxies    []string
	limits     Limits
	admission  *admission
	suspicions *rate.Limiter // of proxies
	tickets    TicketStore
	replica    string
	verifier   verifier
	hub        *hub.Hub
	log        *slog.Logger
	metrics    *Metrics
	melody     *melody.Melody

	mu          sync.Mutex
	connections map[*connection]struct{} // guarded by mu
	polls       map[*poll]struct{}       // guarded by mu
	draining    bool                     // guarded by mu

	tasks   sync.WaitGroup // registered connections, and goroutines that work for them
	writers *writers       // of all connections
}

// NewServer returns a Server.
func NewServer(config Config) *Server {
	s := &Server{
		listener: config.Listener, origins: config.AllowedOrigins, cookie: config.Cookie, tokenInURL: config.TokenInURL,
		proxies: config.TrustedProxies, limits: config.Limits, admission: newAdmission(config.Limits),
		suspicions: rate.NewLimiter(rate.Every(time.Minute), 1), tickets: config.Tickets,
		replica: config.Replica, verifier: config.Verifier, hub: config.Hub, log: config.Log, metrics: config.Metrics,
		melody: newMelody(config.Limits), connections: make(map[*connection]struct{}), polls: make(map[*poll]struct{}),
	}
	s.writers = newWriters(&s.tasks)
	if s.tickets == nil {
		s.tickets = newMemoryTickets()
	}
	config.Hub.OnAvailability(s.announce)
	return s
}

// announce tells every session that events cannot be read for now, or that they can again.
func (s *Server) announce(available bool) {
	news := errAway
	if available {
		news = errAvailable
	}
	s.mu.Lock()
	connections := slices.Collect(maps.Keys(s.connections))
	s.mu.Unlock()
	for _, c := range connections {
		c.announce(news)
	}
}

// Run serves until ctx ends, drains, and returns nil; or an error when the listener fails.
func (s *Server) Run(ctx context.Context) error {
	requests, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	unread := newUnread(s.limits.HeaderTimeout, s.metrics.limited.WithLabelValues(string(limitHeaders)).Inc)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // for proxies: their clients share connections
	server := &http.Server{
		Protocols: protocols, WriteTimeout: answerLimit, HTTP2: &http.HTTP2Config{SendPingTimeout: pingEvery, PingTimeout: pongLimit - pingEvery, WriteByteTimeout: writeLimit},
		Handler: unread.handle(s.handler()), ConnContext: unread.context, ConnState: unread.state,
		ReadHeaderTimeout: s.limits.HeaderTimeout, MaxHeaderBytes: s.limits.HeaderSize, IdleTimeout: pongLimit,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(s.listener) }() // its end is waited for below
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	leave(errRestart) // who still waits to be let in is asked to come back
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor+drainLimit)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(limit) }() // its end is waited for below
	s.drain(limit)
	s.tasks.Wait() // not for long: closeGrace after it is closed, a connection is cut
	if err := <-stopped; err != nil {
		_ = server.Close()
	}
	if err == nil {
		err = <-failed
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// drain closes all sockets, spread over drainFor.
func (s *Server) drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	remaining := slices.Collect(maps.Keys(s.connections))
	s.mu.Unlock()
	if len(remaining) > 0 {
		s.log.InfoContext(ctx, "draining", "connections", len(remaining))
	}
	const steps = 20
	for i := range steps {
		left := steps - i
		some := remaining[:(len(remaining)+left-1)/left] // rounded up: one client alone need not wait
		remaining = remaining[len(some):]
		for _, c := range some {
			c.close(errRestart)
		}
		if len(remaining) > 0 {
			pause(ctx, drainFor/steps)
		}
	}
}

// register adds a connection, unless the server drains. Until it is unregistered, Run does not return.
func (s *Server) register(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.connections[c] = struct{}{}
	s.metrics.connections.Inc()
	s.tasks.Add(1)
	return true
}

func (s *Server) unregister(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
	s.metrics.connections.Dec()
	s.tasks.Done()
}

// handler routes the public port.
func (s *Server) handler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RemoteIPHeaders = []string{"X-Forwarded-For"}
	if err := engine.SetTrustedProxies(s.proxies); err != nil {
		panic(err) // they were checked with the settings
	}
	// A redirect would carry the query along, and nobody links here.
	engine.RedirectTrailingSlash = false
	engine.Use(s.recover, s.bodiless, s.cors)
	engine.NoRoute(errNotFound.write)
	engine.NoMethod(errMethod.write)
	engine.GET("/events", s.events)
	engine.POST("/tickets", s.createTicket)
	return engine
}

// recover keeps a panic to its request. gin's own logs headers and query, which hold tokens.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		value := recover()
		if value == http.ErrAbortHandler { //nolint:errorlint,err113 // it is what was given to panic
			panic(value) // a stream is broken off: net/http sees to it
		}
		if value != nil {
			s.metrics.panics.Inc()
			s.log.Error("panic in a handler", "panic", fmt.Sprint(value), "route", c.FullPath(), "stack", stack())
			if !c.Writer.Written() {
				errInternal.write(c)
			}
		}
	}()
	c.Next()
}

// bodiless keeps a request that announces a body from holding its connection: nothing here takes one, and net/http waits
// for what was announced before it goes on, without a limit of its own.
func (s *Server) bodiless(c *gin.Context) {
	if c.Request.ContentLength != 0 {
		c.Header("Connection", "close")
		_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(s.limits.HeaderTimeout)) // every net.Conn has one
	}
	c.Next()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// newID names a connection: unguessable, so that it tells nothing of the others.
func newID() string { return rand.Text()[:16] }
