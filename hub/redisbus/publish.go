package redisbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reelay/reelay/hub"
)

const (
	// publishTimeout bounds Publish as a whole, however large the batch: a leader that waits for Redis does not number.
	publishTimeout = time.Second
	// maxCommands and maxBytes bound one pipeline. Beyond a hundred commands more make it hardly faster.
	maxCommands = 1000
	maxBytes    = 1 << 20
)

var (
	errNotRunning = errors.New("the bus is not running")
	errSlow       = fmt.Errorf("no answer from Redis within %s", publishTimeout)
)

// publisher is the sending half of a Bus: one connection, one publication at a time.
type publisher struct {
	turn chan struct{} // holds one element while somebody publishes

	// What follows belongs to the holder of turn.
	link   *link // nil before the first publication and after a failed one
	buf    []byte
	signer *signer // nil before the key is known
	marks  int64   // how many have been signed: the serial of the last

	mu      sync.Mutex
	running bool               // guarded by mu
	cancel  context.CancelFunc // guarded by mu; of the publication under way
}

// Publish publishes a batch: its events in their order, then its mark. It returns an error unless Redis confirmed all
// of it, after one second at most. It does not try again, and need not be called again: the next batch's mark tells the
// replicas that they missed something. Before Run, after it, and while the key is not known, Publish fails and sends
// nothing.
//
// # Why a mark never overtakes its events
//
// The mark is sent when Redis has confirmed every event of its batch, which means that they are in the order of what
// each subscriber receives. So it does not matter what becomes of a publication that failed: its bytes may lie in a
// buffer, and reach Redis after those of a later publication, over a newer connection. Late events were delivered
// before, or will be read from the log, and are dropped by their sequence. A late mark vouches for what was confirmed
// before it was sent. One pipeline for both would be sound only while Redis obeys every command: it may refuse an event
// (a rule of its access list) and take the mark behind it.
//
// An event that no message can carry (the codec refuses it, or it is too large) does not block those after it: the rest
// is published, and the mark begins after the batch, so that every replica reads the batch from the log.
func (b *Bus) Publish(ctx context.Context, batch hub.Batch) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, publishTimeout, errSlow)
	defer cancel()
	err := b.sending.exclusively(ctx, cancel, func() error { return b.publish(ctx, batch) })
	b.metrics.publishTime.Observe(time.Since(begin).Seconds())
	if err != nil {
		b.metrics.publishErrors.Inc()
		return fmt.Errorf("publish positions %d to %d: %w", batch.From, batch.Head, err)
	}
	return nil
}

func (p *publisher) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = true
}

// close ends the publication under way, waits for its end, and closes the connection.
func (p *publisher) close() {
	p.mu.Lock()
	p.running = false
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.drop()
}

// drop closes the connection, if there is one. The caller holds the turn.
func (p *publisher) drop() {
	if p.link != nil {
		p.link.close()
		p.link = nil
	}
}

// exclusively runs do while the bus runs and nobody else publishes. close calls cancel.
func (p *publisher) exclusively(ctx context.Context, cancel context.CancelFunc, do func() error) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return fmt.Errorf("wait for the publication before: %w", context.Cause(ctx))
	}
	if !p.enter(cancel) {
		return errNotRunning
	}
	defer p.leave()
	return do()
}

func (p *publisher) enter(cancel context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		p.cancel = cancel
	}
	return p.running
}

func (p *publisher) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = nil
}

// publish publishes on the connection there is, or on a new one. After a failure the connection is closed: nobody knows
// which replies are still to come on it.
func (b *Bus) publish(ctx context.Context, batch hub.Batch) error {
	p := &b.sending
	if p.signer == nil {
		key, err := b.key.known() // Run asks for it
		if err != nil {
			return err
		}
		p.signer = newSigner(key)
	}
	fresh := p.link == nil
	err := b.publishOn(ctx, batch)
	if !fresh && errors.Is(err, errUsedUp) {
		// The connection was found dead before anything of a pipeline was written to it, as after a restart of Redis.
		p.drop()
		err = b.publishOn(ctx, batch)
	}
	if err != nil {
		p.drop()
	}
	return err
}

// publishOn makes one attempt.
func (b *Bus) publishOn(ctx context.Context, batch hub.Batch) (err error) {
	p := &b.sending
	if p.link == nil {
		if p.link, err = dial(ctx, b.options); err != nil {
			return err
		}
	}
	l := p.link
	stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
	defer stop()
	mark := hub.Mark{Log: batch.Log, Epoch: batch.Epoch, From: batch.From, Head: batch.Head}
	whole, err := b.sendEvents(ctx, l, batch)
	if err == nil {
		if !whole {
			mark.From = mark.Head
		}
		err = b.sendMark(ctx, l, mark)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // the rest is only that the socket was closed
	}
	return err
}

// sendEvents sends a batch's events and waits for their confirmation. It says whether a message could carry each.
func (b *Bus) sendEvents(ctx context.Context, l *link, batch hub.Batch) (whole bool, err error) {
	whole = true
	buf := b.sending.buf[:0]
	pipe := l.client.Pipeline()
	flush := func() error {
		n := pipe.Len()
		if n == 0 {
			return nil
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("send events to Redis: %w", err)
		}
		b.metrics.published.Add(float64(n))
		buf = buf[:0]
		return nil
	}
	for _, event := range batch.Events {
		if ctx.Err() != nil { // a large batch is work even before anything is sent
			return whole, context.Cause(ctx)
		}
		start, channel := len(buf), b.names.of(event.Owner)
		if buf, err = b.sending.signer.appendEvent(buf, channel, batch.Log, batch.Epoch, event); err != nil {
			if whole { // the first says enough
				b.log.ErrorContext(ctx, "event not carried by the bus", "position", int64(event.Position), "err", err)
			}
			whole = false
			b.metrics.unpublishable.Inc()
			continue
		}
		pipe.Publish(ctx, channel, buf[start:])
		if pipe.Len() >= maxCommands || len(buf) >= maxBytes {
			if err := flush(); err != nil {
				return whole, err
			}
		}
	}
	if cap(buf) <= 2*maxBytes {
		b.sending.buf = buf // keep it for the next batch, unless one huge event made it huge
	}
	return whole, flush()
}

func (b *Bus) sendMark(ctx context.Context, l *link, mark hub.Mark) error {
	b.sending.marks++
	message, err := b.sending.signer.appendMark(b.sending.buf[:0], b.names.control, mark, b.sending.marks)
	if err != nil {
		return err
	}
	if err := l.client.Publish(ctx, b.names.control, message).Err(); err != nil {
		return fmt.Errorf("send a mark to Redis: %w", err)
	}
	return nil
}
