package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// errUsedUp is what go-redis gets when it wants another connection from a link.
var errUsedUp = errors.New("the connection is used up")

// link is one connection to Redis and what go-redis needs to use it. It is never mended: go-redis's own reconnecting
// would subscribe behind our back, or publish on a connection newer than the one before, so it gets no second socket.
type link struct {
	socket net.Conn // below TLS, so that closing it never waits for the other side
	client *redis.Client
	gone   chan struct{} // closed when the link is broken

	once  sync.Once
	cause error // why the link broke; to be read after gone is closed
}

// single returns options for one connection, which lasts as long as it lasts.
func single(options *redis.Options) *redis.Options {
	own := *options
	own.ConnMaxIdleTime = -1
	// One connection is all there ever is, but a pool of size 1 has a bad habit: after one connection that could not be
	// made it starts a goroutine that outlives it.
	own.PoolSize = 2
	return &own
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
