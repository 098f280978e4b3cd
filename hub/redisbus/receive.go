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
	// arrivalsAhead is how far reading may be ahead of delivering. When it is full the reader waits, and Redis buffers;
	// when it buffers too much it cuts us off, and that is an outage like any other.
	arrivalsAhead = 64
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
	arrivals chan arrival  // closed by the reader when the link is broken
}

// arrival is one thing that Redis sent, in the order in which it sent it. One of event, mark and confirmed is set.
type arrival struct {
	log       string
	epoch     hub.Epoch
	event     *hub.Event
	mark      *hub.Mark
	confirmed string // the channel of a confirmation
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
		kick: make(chan struct{}, 1), arrivals: make(chan arrival, arrivalsAhead),
	}, nil
}

// carry is the life of one connection. It returns why it ended, and nil when ctx did; by then its goroutines have too.
func (b *Bus) carry(ctx context.Context, out *outlet) error {
	l, err := b.connect(ctx)
	if err != nil {
		return err
	}
	b.attach(l)
	defer b.detach()
	reader, writer := make(chan struct{}), make(chan struct{})
	go func() { defer close(reader); b.read(ctx, l) }()
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
func (b *Bus) read(ctx context.Context, l *receiving) {
	defer close(l.arrivals)
	var d decoder
	for {
		reply, err := l.pubsub.Receive(ctx)
		if err != nil {
			l.fail(fmt.Errorf("receive from Redis: %w", err))
			return
		}
		var a arrival
		switch reply := reply.(type) {
		case *redis.Subscription:
			a.confirmed = reply.Channel
		case *redis.Message:
			if a, err = b.decode(&d, reply); err != nil {
				b.reject(ctx, err)
				continue
			}
		default:
			continue
		}
		select {
		case l.arrivals <- a:
		case <-l.gone:
			return
		}
	}
}

// decode turns a message into an arrival, if it says what its channel may say.
func (b *Bus) decode(d *decoder, message *redis.Message) (a arrival, err error) {
	// A copy, so that the event's data is not kept alive together with the rest of what was read.
	payload := []byte(message.Payload)
	if message.Channel == b.names.control {
		mark, err := d.mark(payload)
		a.mark = &mark
		return a, err
	}
	if a.log, a.epoch, a.event, err = d.event(payload); err != nil {
		return a, err
	}
	var room [128]byte
	if string(b.names.append(room[:0], a.event.Owner)) != message.Channel {
		return a, rejectedChannel
	}
	return a, nil
}

// reject counts a message that is dropped. Nothing of it is logged: it may be anything, and there may be many.
func (b *Bus) reject(ctx context.Context, err error) {
	if reason, ok := errors.AsType[rejection](err); ok {
		b.metrics.rejected[reason].Inc()
		b.log.DebugContext(ctx, "bus message rejected", "reason", string(reason))
	}
}

// dispatch hands over to the receiver what arrives, until the connection is broken, silent, or ctx ends.
func (b *Bus) dispatch(ctx context.Context, l *receiving, out *outlet) error {
	silence := time.NewTimer(Silence)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-silence.C:
			return errSilent
		case <-out.late:
			if out.is == isStarting {
				out.down(ctx, errUnheard)
			}
		case a, open := <-l.arrivals:
			switch {
			case !open:
				<-l.gone
				return l.cause
			case a.event != nil:
				if b.wants(a.event.Owner) {
					b.metrics.events.Inc()
					out.Deliver(a.log, a.epoch, a.event)
				}
			case a.mark != nil:
				silence.Reset(Silence)
				b.metrics.marks.Inc()
				out.Advance(*a.mark)
				// After the mark, not before: part of what it vouches for may have been published before we listened.
				if b.arise() {
					out.up(ctx)
				}
			default:
				b.confirmed(a.confirmed)
			}
		}
	}
}
