package redisbus

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// ticketTimeout bounds each use of Tickets as a whole: a client waits for it.
	ticketTimeout = time.Second
	// ticketConnections is how many connections there may be. Each is busy for a fraction of a millisecond.
	ticketConnections = 32
	// ticketIdle is how long a connection is kept for the next ticket.
	ticketIdle = 5 * time.Minute
	// maxTicket bounds a value, in bytes.
	maxTicket = 64 << 10
)

var (
	// ErrUnavailable is returned by Tickets when Redis cannot be used, or the secret is not known. Nothing is tried again
	// by itself: after a Take, nobody knows whether the ticket is still there.
	ErrUnavailable = errors.New("tickets are not available for now")
	// ErrForgedTicket is returned by Take for a value that no replica with our secret put there under that id.
	ErrForgedTicket = errors.New("a ticket in Redis is not sealed with this replica's key: " +
		"does REELAY_REDIS_SECRET differ between replicas?")
)

// errNoGetDel is what a Redis before 6.2 gets. Reading and deleting apart would let two clients have one ticket.
var errNoGetDel = errors.New("this Redis has no GETDEL: tickets need Redis 6.2 or newer")

// Tickets keep values in Redis, each for a short time and to be taken once, on any replica. Its methods are safe for
// concurrent use and take a second at most. A user of Redis with an access list needs SET and GETDEL on
// <prefix>:ticket:*.
//
// A value is kept under the SHA-256 of its id, and is sealed by AES-256-GCM together with the id. So whoever reads Redis
// learns neither ids nor values, and whoever writes to it can neither make a value nor move one to another id. Time and
// use are for Redis to count: who can write to it and has an id, too, can make that ticket last.
type Tickets struct {
	client *redis.Client
	prefix string
	key    *keeper
	sealer atomic.Pointer[cipher.AEAD] // made of the key when it is known
}

// NewTickets returns tickets at the Redis of a configuration, of which it uses URL, Prefix and Key; the secret is asked
// for by the first ticket. It connects to nothing yet.
func NewTickets(cfg Config) (*Tickets, error) {
	options, err := cfg.check()
	if err != nil {
		return nil, err
	}
	options.PoolSize = ticketConnections
	options.ConnMaxIdleTime = ticketIdle
	quiet()
	return &Tickets{
		client: redis.NewClient(options), prefix: cfg.Prefix + ":ticket:", key: newKeeper(cfg.Key, forTickets),
	}, nil
}

// Close frees the connections. Put and Take return ErrUnavailable after it.
func (t *Tickets) Close() error {
	if err := t.client.Close(); err != nil {
		return fmt.Errorf("close the connections for tickets: %w", err)
	}
	return nil
}

// Put keeps a value for a time: a millisecond at least, and counted in whole ones. The id must be one that nobody can
// guess, and is not used again. What it cannot keep gives ErrUnavailable, a value over 64 KiB another error.
func (t *Tickets) Put(ctx context.Context, id string, value []byte, ttl time.Duration) error {
	if len(value) > maxTicket || id == "" || ttl < time.Millisecond {
		return fmt.Errorf("keep a ticket: %d bytes for %s, under an id of %d", len(value), ttl, len(id))
	}
	ctx, cancel := context.WithTimeout(ctx, ticketTimeout)
	defer cancel()
	sealer, err := t.unlock(ctx)
	if err == nil {
		sealed := sealer.Seal(nil, nil, value, []byte(id)) //nolint:gosec // G407: there is no nonce here, it draws its own.
		err = t.client.Set(ctx, t.name(id), sealed, ttl.Truncate(time.Millisecond)).Err()
	}
	if err != nil {
		return fmt.Errorf("keep a ticket: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// Take returns the value that was put under an id, and nil if there is none: it never was, was taken, or its time is
// over. Of any number of calls for one id, one gets it. After ErrUnavailable the ticket may be gone: the client needs
// another one.
func (t *Tickets) Take(ctx context.Context, id string) ([]byte, error) {
	if id == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, ticketTimeout)
	defer cancel()
	sealer, err := t.unlock(ctx) // first: what cannot be opened is not to be taken either
	if err != nil {
		return nil, fmt.Errorf("take a ticket: %w: %w", ErrUnavailable, err)
	}
	sealed, err := t.client.GetDel(ctx, t.name(id)).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case redis.HasErrorPrefix(err, "unknown command"): // its text names the key
		return nil, fmt.Errorf("take a ticket: %w: %w", ErrUnavailable, errNoGetDel)
	case redis.HasErrorPrefix(err, "WRONGTYPE"): // a list, or the like
		return nil, fmt.Errorf("take a ticket: %w", ErrForgedTicket)
	case err != nil:
		return nil, fmt.Errorf("take a ticket: %w: %w", ErrUnavailable, err)
	}
	value, err := sealer.Open([]byte{}, nil, sealed, []byte(id)) // not nil, though the value may be empty
	if err != nil {
		return nil, fmt.Errorf("take a ticket: %w", ErrForgedTicket)
	}
	return value, nil
}

// name returns the key of an id in Redis.
func (t *Tickets) name(id string) string {
	sum := sha256.Sum256([]byte(id))
	return t.prefix + hex.EncodeToString(sum[:])
}

// unlock returns what seals and opens values.
func (t *Tickets) unlock(ctx context.Context) (cipher.AEAD, error) {
	if sealer := t.sealer.Load(); sealer != nil {
		return *sealer, nil
	}
	key, err := t.key.get(ctx)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	// Nonces are random: good for four billion tickets with one secret.
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	t.sealer.Store(&sealer)
	return sealer, nil
}
