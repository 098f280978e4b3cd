package pg_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

// bus is what the replicas of a test publish to: it keeps everything, and can be told to refuse or to hang.
type bus struct {
	mu      sync.Mutex
	batches []published                                    // guarded by mu
	before  func(context.Context, string, hub.Batch) error // guarded by mu; called first, may refuse
}

// published is a batch as it arrived.
type published struct {
	hub.Batch
	by string // the replica
	at time.Time
}

// port is one replica's way onto the bus.
type port struct {
	*bus
	replica string
}

func (p port) Publish(ctx context.Context, batch hub.Batch) error {
	p.mu.Lock()
	before := p.before
	p.mu.Unlock()
	if before != nil {
		if err := before(ctx, p.replica, batch); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, published{batch, p.replica, time.Now()})
	return nil
}

// meddle has f called before each batch is published.
func (b *bus) meddle(f func(ctx context.Context, replica string, batch hub.Batch) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = f
}

func (b *bus) all() []published {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.batches)
}

// head is the last position that was published.
func (b *bus) head() hub.Position {
	var head hub.Position
	for _, batch := range b.all() {
		head = max(head, batch.Head)
	}
	return head
}

// leader returns the replica of the highest epoch, and that epoch; "" before the first.
func (b *bus) leader() (string, hub.Epoch) {
	var last published
	for _, batch := range b.all() {
		if batch.Epoch > last.Epoch {
			last = batch
		}
	}
	return last.by, last.Epoch
}

// events returns what was published, each position once, in order. It fails the test where a position was published
// with two contents, or a batch is not what it claims to be.
func (b *bus) events(t testing.TB) []*hub.Event {
	t.Helper()
	known := map[hub.Position]*hub.Event{}
	by := map[hub.Epoch]string{}
	for _, batch := range b.all() {
		if first := by[batch.Epoch]; first != "" && first != batch.by {
			t.Errorf("epoch %d was that of %s and of %s", batch.Epoch, first, batch.by)
		}
		by[batch.Epoch] = batch.by
		if hub.Position(len(batch.Events)) != batch.Head-batch.From {
			t.Errorf("a batch from %d to %d has %d events", batch.From, batch.Head, len(batch.Events))
		}
		for i, event := range batch.Events {
			if event.Position != batch.From+hub.Position(i)+1 {
				t.Errorf("a batch from %d has position %d as its event %d", batch.From, event.Position, i)
			}
			if twin := known[event.Position]; twin != nil && line(twin) != line(event) {
				t.Errorf("position %d was published twice with different contents:\n%s\n%s", event.Position, line(twin), line(event))
			}
			known[event.Position] = event
		}
	}
	events := make([]*hub.Event, 0, len(known))
	for _, event := range known {
		events = append(events, event)
	}
	slices.SortFunc(events, func(a, b *hub.Event) int { return int(a.Position - b.Position) })
	return events
}

// line is an event as a test compares it.
func line(e *hub.Event) string {
	return fmt.Sprint(e.Position, " ", e.Owner, " ", e.Sequence, " ", e.OutboxID, " ", e.Subject, " ", e.Type, " ", string(e.Data), " ", e.Time.UTC().Format(time.RFC3339Nano))
}

// chained fails the test unless each batch begins where the one before it of the same leader ended. It is for tests in
// which the bus takes everything.
func (b *bus) chained(t testing.TB) {
	t.Helper()
	heads := map[hub.Epoch]hub.Position{}
	for _, batch := range b.all() {
		if head, later := heads[batch.Epoch]; later && batch.From != head {
			t.Errorf("epoch %d: a batch from %d follows one to %d", batch.Epoch, batch.From, head)
		}
		heads[batch.Epoch] = batch.Head
	}
}

// complete waits until everything that is committed is numbered and published, and checks that what was published is
// what the log holds: positions and each owner's sequences gapless from 1. It returns the events.
func (b *bus) complete(s *session) []*hub.Event {
	s.t.Helper()
	eventually(s.t, "everything is published", func() bool {
		return one[bool](s, `SELECT NOT EXISTS (SELECT FROM reelay.outbox) AND last_position = $1 FROM reelay.state`, b.head())
	})
	events := b.events(s.t)
	sequences := map[hub.Owner]hub.Sequence{}
	lines := make([]string, len(events))
	for i, event := range events {
		if event.Position != hub.Position(i+1) {
			s.t.Fatalf("position %d follows %d", event.Position, i)
		}
		sequences[event.Owner]++
		if event.Sequence != sequences[event.Owner] {
			s.t.Fatalf("sequence %d of %s stands where %d should", event.Sequence, event.Owner, sequences[event.Owner])
		}
		lines[i] = fmt.Sprint(event.Position, " ", event.Owner, " ", event.Sequence, " ", event.OutboxID, " ", event.Subject, " ", event.Type)
	}
	same(s.t, "the log", s.lines(`SELECT concat_ws(' ', position, owner, sequence, outbox_id, subject, type) FROM reelay.log ORDER BY position`), lines)
	for owner, last := range sequences {
		if got := one[hub.Sequence](s, `SELECT sequence FROM reelay.owner_head WHERE owner = $1`, owner); got != last {
			s.t.Errorf("the head of %s is %d, want %d", owner, got, last)
		}
	}
	return events
}
