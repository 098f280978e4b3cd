package client

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 30 * time.Second
	// settled is how long a connection must have been live before the next failure counts as the first one. A gateway
	// that accepts and hangs up at once must not be called four times a second.
	settled = 5 * time.Second
)

// backoff spaces attempts out: exponential, with full jitter, so that clients which lost the same replica at the same
// moment do not come back at the same moment.
type backoff struct {
	attempts int
	// jitter picks a delay between zero and its argument.
	jitter func(time.Duration) time.Duration
}

func fullJitter(limit time.Duration) time.Duration { return rand.N(limit + 1) }

// next returns how long to wait before the next attempt, at least atLeast, where a server asked for that. The jitter
// comes on top: a server that tells ten thousand clients "in five seconds" does not mean all in the same one.
func (b *backoff) next(atLeast time.Duration) time.Duration {
	limit := maxDelay
	if b.attempts < 7 { // 250 ms << 7 is over the limit already
		limit = firstDelay << b.attempts
	}
	b.attempts++
	return atLeast + b.jitter(limit)
}

func (b *backoff) reset() { b.attempts = 0 }

// pause waits, or returns false as soon as ctx ends.
func pause(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
