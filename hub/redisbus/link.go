package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// ioTimeout bounds each step on a connection that has an answer: to connect, to write, to read a reply.
const ioTimeout = 500 * time.Millisecond

// errUsedUp is what go-redis gets when it wants another connection from a link.
var errUsedUp = errors.New("the connection is used up")

// settings turns a URL into options for one connection. What the URL says of timeouts and retries is overruled: the
// promises of this package rest on them. Its errors never quote the URL, whose parts may hold the password in places
// where nobody expects it.
func settings(rawURL string) (*redis.Options, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the Redis URL is not a URL; " +
			"a special character in the password must be written as %XX")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	default:
		return nil, errors.New("the Redis URL must begin with redis://, rediss:// or unix://")
	}
	options, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, errors.New("the Redis URL is not understood; it should look like " +
			"redis://user:password@host:6379/0 or unix:///path/to/redis.sock")
	}
	options.Protocol = 2 // version 3 has lost messages
	options.MaxRetries = -1
	options.DialerRetries = 1
	options.DialTimeout = ioTimeout
	options.ReadTimeout = ioTimeout
	options.WriteTimeout = ioTimeout
	options.PoolTimeout = ioTimeout
	options.ContextTimeoutEnabled = true
	options.DisableIdentity = true
	options.PipelinePoolSize = -1
	options.MinIdleConns = 0
	options.ConnMaxIdleTime = -1
	options.ConnMaxLifetime = 0
	// One connection is all there ever is, but a pool of size 1 has a bad habit: after one connection that could not be
	// made it starts a goroutine that outlives it.
	options.PoolSize = 2
	return options, nil
}

// quiet silences go-redis, whose logger is global and writes to standard error. This package is its only home, and
// returns or logs every error itself.
var quiet = sync.OnceFunc(logging.Disable)

// link is one connection to Redis and what go-redis needs to use it. It is never mended: go-redis's own reconnecting
// would subscribe behind our back, or publish on a connection newer than the one before, so it gets no second socket.
type link struct {
	socket net.Conn // below TLS, so that closing it never waits for the other side
	client *redis.Client
	gone   chan struct{} // closed when the link is broken

	once  sync.Once
	cause error // why the link broke; to be read after gone is closed
}

// dial connects. Nothing is said yet: go-redis greets the server before its first command.
func dial(ctx context.Context, options *redis.Options) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	socket, err := new(net.Dialer).DialContext(ctx, options.Network, options.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	conn := socket
	if options.TLSConfig != nil {
		secure := tls.Client(socket, options.TLSConfig.Clone())
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = socket.Close()
			return nil, fmt.Errorf("connect to Redis by TLS: %w", err)
		}
		conn = secure
	}
	var used atomic.Bool
	own := *options
	own.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errUsedUp
		}
		return conn, nil
	}
	quiet()
	return &link{socket: socket, client: redis.NewClient(&own), gone: make(chan struct{})}, nil
}

// fail breaks the link, and remembers the first reason given. Whoever waits on the socket returns at once.
func (l *link) fail(cause error) {
	l.once.Do(func() {
		l.cause = cause
		close(l.gone)
		_ = l.socket.Close()
	})
}

// close breaks the link, if it is not broken yet, and frees what it holds.
func (l *link) close() {
	l.fail(net.ErrClosed)
	_ = l.client.Close()
}
