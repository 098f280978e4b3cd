package redisbus

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// secretTimeout bounds one asking for the secret.
	secretTimeout = 5 * time.Second
	// minSecret is the shortest secret that is taken, in bytes: what is shorter can be guessed.
	minSecret = 16
)

// What keys are for: labels of HKDF (RFC 5869, section 3.2). So one secret gives keys that say nothing of each other. A
// label is never changed: replicas of different builds would not understand each other.
const (
	forMessages = "reelay/redisbus/messages"
	forTickets  = "reelay/redisbus/tickets"
)

var (
	errSecretShort = fmt.Errorf("the secret for Redis is shorter than %d bytes", minSecret)
	errNoSecret    = errors.New("the secret for Redis is not known yet")
)

// keeper asks for the secret that all replicas share until it has it, and keeps the key that is made of it, for good.
// It is safe for concurrent use.
type keeper struct {
	ask   func(context.Context) ([]byte, error)
	label string
	key   atomic.Pointer[[]byte]

	turn   chan struct{} // holds one element while somebody asks
	failed time.Time     // when asking failed last; belongs to the holder of turn
	err    error         // why; belongs to the holder of turn
}

func newKeeper(ask func(context.Context) ([]byte, error), label string) *keeper {
	return &keeper{ask: ask, label: label, turn: make(chan struct{}, 1)}
}

// known returns the key, if somebody has asked for it and got it.
func (k *keeper) known() ([]byte, error) {
	if key := k.key.Load(); key != nil {
		return *key, nil
	}
	return nil, errNoSecret
}

// get returns the key, and asks for it if nobody has. However many call it, the secret is asked for by one at a time,
// and not again within minPause after that failed: then the failure is the answer.
func (k *keeper) get(ctx context.Context) ([]byte, error) {
	if key, err := k.known(); err == nil {
		return key, nil
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNoSecret, ctx.Err())
	}
	if key, err := k.known(); err == nil {
		return key, nil
	}
	if k.err == nil || time.Since(k.failed) >= minPause {
		if k.err = k.learn(ctx); k.err != nil {
			k.failed = time.Now()
			return nil, k.err
		}
		return k.known()
	}
	return nil, k.err
}

// learn asks for the secret once. The caller holds the turn.
func (k *keeper) learn(ctx context.Context) error {
	secret, err := k.ask(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSecret, err)
	}
	if len(secret) < minSecret {
		return errSecretShort
	}
	key, err := hkdf.Key(sha256.New, secret, nil, k.label, sha256.Size)
	if err != nil {
		return fmt.Errorf("derive a key from the secret for Redis: %w", err)
	}
	k.key.Store(&key)
	return nil
}
