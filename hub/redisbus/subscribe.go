package redisbus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/reelay/reelay/hub"
)

const (
	// chunk is how many channels one SUBSCRIBE names: tens of kilobytes, which always fit a socket's buffer.
	chunk = 500
	// patience is how long Subscribe waits for a confirmation while the bus is connected, but not up. It is longer than
	// any round trip to a Redis worth using.
	patience = 100 * time.Millisecond
)

// topic is what the bus knows of one owner's channel. All of it is guarded by the Bus's mu.
//
// Redis answers every command, in order. So the channel is live exactly if the last command on this connection was
// SUBSCRIBE and none is unanswered, however often the owner came and went meanwhile.
type topic struct {
	owner      hub.Owner
	wanted     bool          // what the hub asked for last
	asked      bool          // what Redis was asked for last on this connection: true after SUBSCRIBE
	unanswered int           // commands on this connection that are not confirmed
	dirty      bool          // in Bus.dirty
	owed       bool          // its Subscribe returned before it was live: Up waits for it
	ready      chan struct{} // closed when nobody needs to wait any more; nil if nobody waits
}

func (t *topic) live() bool { return t.asked && t.unanswered == 0 }

// release ends the waiting of every Subscribe for this topic.
func (t *topic) release() {
	if t.ready != nil {
		close(t.ready)
		t.ready = nil
	}
}

// Subscribe implements hub.Bus. Concurrent calls share commands. It returns nil
//
//   - when Redis has confirmed: what is published from then on arrives;
//   - at once while there is no connection, and when the connection breaks while it waits;
//   - after a tenth of a second while there is a connection but the bus is not up yet;
//   - when Unsubscribe takes it back.
//
// Where that is before the confirmation, Up comes after the confirmation. When ctx ends first the error is ctx's, and
// the owner stays subscribed until Unsubscribe.
func (b *Bus) Subscribe(ctx context.Context, owner hub.Owner) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	ready, up := b.want(owner)
	if ready == nil {
		return nil
	}
	var impatient <-chan time.Time
	if !up {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		impatient = timer.C
	}
	for {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("subscribe: %w", ctx.Err())
		case <-impatient:
			if b.owe(owner, ready) {
				return nil
			}
		}
	}
}

// want records that an owner is wanted. It returns what to wait for, nil if there is nothing to wait for, and whether
// the bus is up.
func (b *Bus) want(owner hub.Owner) (ready <-chan struct{}, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[owner]
	if t == nil {
		t = &topic{owner: owner}
		b.topics[owner] = t
	}
	t.wanted = true
	if b.link == nil || t.live() {
		return nil, b.up
	}
	b.touch(t)
	if t.ready == nil {
		t.ready = make(chan struct{})
	}
	return t.ready, b.up
}

// owe makes Up wait for an owner's confirmation, so that Subscribe need not. It says whether Subscribe may return; it
// may not when the bus has come up meanwhile.
func (b *Bus) owe(owner hub.Owner, ready <-chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[owner]
	if t == nil || t.ready != ready {
		return true // released meanwhile
	}
	if b.up {
		return false
	}
	if !t.owed {
		t.owed = true
		b.owed++
	}
	return true
}

// Unsubscribe implements hub.Bus. A Deliver of the owner that is under way may still end after it has returned; no
// other begins.
func (b *Bus) Unsubscribe(owner hub.Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[owner]
	if t == nil || !t.wanted {
		return
	}
	t.wanted = false
	b.settle(t)
	t.release()
	if b.link == nil {
		delete(b.topics, owner)
		return
	}
	b.touch(t)
}

// touch puts a topic on the writer's list. The list is never longer than the list of topics, so it needs no bound of
// its own. Called with mu held.
func (b *Bus) touch(t *topic) {
	if !t.dirty {
		t.dirty = true
		b.dirty = append(b.dirty, t)
	}
	select {
	case b.link.kick <- struct{}{}:
	default: // the writer has been told and has not looked yet
	}
}

// settle takes a topic off the list of those that Up waits for. Called with mu held.
func (b *Bus) settle(t *topic) {
	if t.owed {
		t.owed = false
		b.owed--
	}
}

// attach makes a new connection the one in use: everything wanted is to be subscribed on it, and Up waits for that.
// The control channel has been asked for by then.
func (b *Bus) attach(l *receiving) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.link, b.up = l, false
	b.control = topic{wanted: true, asked: true, unanswered: 1, owed: true}
	b.owed = 1
	b.dirty = b.dirty[:0]
	for _, t := range b.topics {
		t.asked, t.unanswered, t.dirty, t.owed = false, 0, false, true
		b.owed++
		b.touch(t)
	}
}

// detach is the end of a connection: nobody waits for its confirmations any more.
func (b *Bus) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.link, b.up = nil, false
	for owner, t := range b.topics {
		t.release()
		if !t.wanted {
			delete(b.topics, owner)
		}
	}
}

// confirmed takes note of one confirmation of Redis, of a SUBSCRIBE or of an UNSUBSCRIBE.
func (b *Bus) confirmed(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.control
	if channel != b.names.control {
		owner, _ := b.names.owner(channel)
		if t = b.topics[owner]; t == nil {
			return
		}
	}
	if t.unanswered > 0 {
		t.unanswered--
	}
	if t.live() {
		b.settle(t)
		t.release()
	}
	b.forget(t)
}

// forget drops a topic that nobody wants and that Redis has no part in any more. Called with mu held.
func (b *Bus) forget(t *topic) {
	if !t.wanted && !t.asked && t.unanswered == 0 && b.topics[t.owner] == t {
		delete(b.topics, t.owner)
	}
}

// wants says whether an event of the owner is to be delivered. It is not when it was still under way when the owner
// was unsubscribed.
func (b *Bus) wants(owner hub.Owner) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[owner]
	return t != nil && t.wanted
}

// arise makes the bus up if nothing is owed, and says whether it did.
func (b *Bus) arise() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.up || b.owed > 0 {
		return false
	}
	b.up = true
	return true
}

// changes takes all that is to be asked of Redis since the last time.
func (b *Bus) changes() (subscribe, unsubscribe []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.dirty {
		t.dirty = false
		switch {
		case t.wanted == t.asked:
			b.forget(t)
			continue
		case t.wanted:
			subscribe = append(subscribe, b.names.of(t.owner))
		default:
			unsubscribe = append(unsubscribe, b.names.of(t.owner))
		}
		t.asked = t.wanted
		t.unanswered++
	}
	b.dirty = b.dirty[:0]
	return subscribe, unsubscribe
}

// write tells Redis what changed, until the connection breaks. While it writes, changes pile up for the next round:
// that is all the batching there is, and it needs no timer.
func (b *Bus) write(ctx context.Context, l *receiving) {
	for {
		select {
		case <-l.gone:
			return
		case <-l.kick:
		}
		subscribe, unsubscribe := b.changes()
		err := inChunks(ctx, l.pubsub.Unsubscribe, unsubscribe)
		if err == nil {
			err = inChunks(ctx, l.pubsub.Subscribe, subscribe)
		}
		if err != nil {
			l.fail(fmt.Errorf("subscribe at Redis: %w", err))
			return
		}
	}
}

// inChunks sends a command for the channels, if there are any. (An UNSUBSCRIBE without one would mean all.)
func inChunks(ctx context.Context, command func(context.Context, ...string) error, channels []string) error {
	for part := range slices.Chunk(channels, chunk) {
		if err := command(ctx, part...); err != nil {
			return err
		}
	}
	return nil
}
