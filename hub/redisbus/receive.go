package redisbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reelay/reelay/hub"
)

const (
	// Silence is how long a connection may go without a mark. Then it is dead, whatever the socket says: a frozen Redis
	// and a link that drops packets look like a quiet one. A leader publishes a mark every second.
	Silence = 3 * time.Second
	// greeting bounds the connecting, the greeting and the first SUBSCRIBE together, so that a bus that can't be
	// reached is told as down within a second of the start.
	greeting = 900 * time.Millisecond
)

var (
	errSilent  = fmt.Errorf("no mark for %s", Silence)
	errUnheard = errors.New("connected, but no mark yet: no leader publishes here")
)

// receiving is a connection that receives.
type receiving struct {
	*link
	pubsub   *redis.PubSub
	kick     chan struct{} // tells the writer to look
	arrivals *arrivals     // ended by the reader when the link is broken
}

// connect connects, and asks for the control channel.
func (b *Bus) connect(ctx context.Context) (*receiving, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	l, err := dial(ctx, b.options)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
	defer stop()
	pubsub := l.client.Subscribe(ctx)
	if err := pubsub.Subscribe(ctx, b.names.control); err != nil {
		_ = pubsub.Close()
		l.close()
		return nil, fmt.Errorf("greet Redis: %w", err)
	}
	b.metrics.connections.Inc()
	return &receiving{
		link: l, pubsub: pubsub,
		kick: make(chan struct{}, 1), arrivals: newArrivals(),
	}, nil
}

// unlock waits for the key, and asks for it if nobody has.
func (b *Bus) unlock(ctx context.Context, out *outlet) (*signer, error) {
	var key []byte
	asked := make(chan error, 1)
	go func() { // the loop below waits for it
		var err error
		key, err = b.key.get(ctx)
		asked <- err
	}()
	for {
		select {
		case err := <-asked:
			if err != nil {
				return nil, err
			}
			return newSigner(key), nil
		case <-out.late:
			out.overdue(ctx, errNoSecret)
		}
	}
}

// carry is the life of one connection. It returns why it ended, and nil when ctx did; by then its goroutines have too.
func (b *Bus) carry(ctx context.Context, out *outlet) error {
	signer, err := b.unlock(ctx, out)
	if err != nil {
		return err
	}
	l, err := b.connect(ctx)
	if err != nil {
		return err
	}
	b.attach(l)
	defer b.detach()
	reader, writer := make(chan struct{}), make(chan struct{})
	go func() { defer close(reader); b.read(ctx, l, signer) }()
	go func() { defer close(writer); b.write(ctx, l) }()
	defer func() { // both end when the link is broken
		l.close()
		_ = l.pubsub.Close()
		<-reader
		<-writer
	}()
	return b.dispatch(ctx, l, out)
}

// read hands on what Redis sends. It waits without a deadline: one that passes in the midst of a message would leave
// its second half to be read as the next. The clock is watched by dispatch, which breaks the link.
func (b *Bus) read(ctx context.Context, l *receiving, s *signer) {
	defer l.arrivals.end()
	var d decoder
	for {
		reply, err := l.pubsub.Receive(ctx)
		if err != nil {
			l.fail(fmt.Errorf("receive from Redis: %w", err))
			return
		}
		var a arrival
		var size int
		switch reply := reply.(type) {
		case *redis.Subscription:
			a.confirmed = reply.Channel
		case *redis.Message:
			if a, err = b.decode(s, &d, reply); err != nil {
				b.reject(ctx, err)
				continue
			}
			size = len(reply.Payload)
		default:
			continue
		}
		if !l.arrivals.put(a, size, l.gone) {
			return
		}
	}
}

// decode turns a message into an arrival, if it is genuine and says what its channel may say.
func (b *Bus) decode(s *signer, d *decoder, message *redis.Message) (a arrival, err error) {
	// A copy, so that the event's data is not kept alive together with the rest of what was read.
	body, err := s.open(message.Channel, []byte(message.Payload))
	if err != nil {
		return a, err
	}
	if message.Channel == b.names.control {
		mark, serial, err := d.mark(body)
		if err == nil && !b.heard.note(mark, serial) {
			err = rejectedOld
		}
		a.mark = &mark
		return a, err
	}
	if a.log, a.epoch, a.event, err = d.event(body); err != nil {
		return a, err
	}
	var room [128]byte
	if string(b.names.append(room[:0], a.event.Owner)) != message.Channel {
		return a, rejectedChannel
	}
	return a, nil
}

// heard is the newest mark that came of each log. It grows by one for each log that a key holder ever named: by a few
// in a replica's life.
type heard map[string]struct {
	epoch  hub.Epoch
	serial int64
}

// note says whether a mark is newer than all before it, and remembers it. One that is not was repeated by somebody, or
// is of a leader that was replaced, or was long under way. It moves nothing in a hub, but it would pass for a sign of
// life, and hide that the real marks do not come.
func (h heard) note(mark hub.Mark, serial int64) bool {
	last := h[mark.Log]
	if mark.Epoch < last.epoch || mark.Epoch == last.epoch && serial <= last.serial {
		return false
	}
	last.epoch, last.serial = mark.Epoch, serial
	h[mark.Log] = last
	return true
}

// reject counts a message that is dropped. Nothing of it is logged: it may be anything, and there may be many.
func (b *Bus) reject(ctx context.Context, err error) {
	reason, ok := errors.AsType[rejection](err)
	if !ok {
		return
	}
	b.metrics.rejected[reason].Inc()
	b.log.DebugContext(ctx, "bus message rejected", "reason", string(reason))
	if reason == rejectedSignature {
		b.strange.Do(func() {
			b.log.WarnContext(ctx, "messages on Redis are not signed with this replica's key, and dropped",
				"check", "does REELAY_REDIS_SECRET differ between replicas? If not, who else writes to this Redis?")
		})
	}
}

// dispatch hands over to the receiver what arrives, until the connection is broken, silent, or ctx ends.
func (b *Bus) dispatch(ctx context.Context, l *receiving, out *outlet) error {
	silence := time.NewTimer(Silence)
	defer silence.Stop()
	var all []arrival
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			return nil
		case <-silence.C:
			return errSilent
		case <-out.late:
			out.overdue(ctx, errUnheard)
		case <-l.arrivals.some:
			all, ended = l.arrivals.take(all)
			for i := range all {
				if b.handOver(ctx, &all[i], out) {
					silence.Reset(Silence)
				}
			}
		}
	}
	<-l.gone
	return l.cause
}

// handOver hands one arrival over. It reports whether that was a mark.
func (b *Bus) handOver(ctx context.Context, a *arrival, out *outlet) (marked bool) {
	switch {
	case a.event != nil:
		if b.wants(a.event.Owner) {
			b.metrics.events.Inc()
			out.Deliver(a.log, a.epoch, a.event)
		}
	case a.mark != nil:
		b.metrics.marks.Inc()
		out.Advance(*a.mark)
		// After the mark, not before: part of what it vouches for may have been published before we listened.
		if b.arise() {
			out.up(ctx)
		}
		return true
	default:
		b.confirmed(a.confirmed)
	}
	return false
}
