package redisbus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

// leader publishes as the relay does: a mark every tenth of a second, and what the test asks for. Like the relay it
// goes on after a failure with the next positions, and does not try again.
type leader struct {
	*replica

	mu     sync.Mutex
	head   hub.Position
	last   map[hub.Owner]hub.Sequence
	owners []hub.Owner // of positions 1, 2, …
	epoch  hub.Epoch
	worst  time.Duration // how long Publish took at most
	quiet  atomic.Bool   // no marks on its own
}

// publishLimit is what Publish may take at most: a second, and room for a busy machine.
const publishLimit = 1500 * time.Millisecond

// checkPublishTimes fails the test if any Publish so far took too long.
func (l *leader) checkPublishTimes(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.worst > publishLimit {
		t.Errorf("Publish took %s, want %s at most, whatever happens to Redis", l.worst, publishLimit)
	}
}

// lead starts a leader. It publishes until the test ends.
func lead(t *testing.T, url string) *leader {
	t.Helper()
	l := &leader{replica: start(t, url), last: make(map[hub.Owner]hub.Sequence), epoch: 7}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !l.quiet.Load() {
					_, _ = l.publish()
				}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return l
}

// publish publishes one event for each owner, in one batch, and returns the position of the last.
func (l *leader) publish(owners ...hub.Owner) (hub.Position, error) {
	return l.publishWith(nil, owners...)
}

// publishWith is publish with a change to each event.
func (l *leader) publishWith(change func(*hub.Event), owners ...hub.Owner) (hub.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := hub.Batch{Log: "k3f9a2bq", Epoch: l.epoch, From: l.head}
	for _, owner := range owners {
		l.head++
		l.last[owner]++
		l.owners = append(l.owners, owner)
		event := &hub.Event{
			Position: l.head, Owner: owner, Sequence: l.last[owner], OutboxID: int64(l.head) + 1000,
			Type: "video.updated", Subject: fmt.Sprintf("vid_%d", l.head),
			Data: json.RawMessage(`{"processing_status":"ready","previous":{"processing_status":"processing"}}`),
			Time: time.Date(2026, 11, 22, 10, 0, 0, int(l.head), time.UTC),
		}
		if change != nil {
			change(event)
		}
		batch.Events = append(batch.Events, event)
	}
	batch.Head = l.head
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	begin := time.Now()
	err := l.Publish(ctx, batch)
	l.worst = max(l.worst, time.Since(begin))
	return l.head, err
}

// mustPublish publishes until Redis takes it: there may just have been an outage, and on a busy machine a second is
// little. What was published in vain leaves a gap in the positions.
func (l *leader) mustPublish(t *testing.T, owners ...hub.Owner) hub.Position {
	t.Helper()
	var position hub.Position
	eventually(t, "Publish works", func() bool {
		var err error
		position, err = l.publish(owners...)
		return err == nil
	})
	return position
}

// checkMarks fails the test if a mark vouches for an event of a subscribed owner that was not delivered before it.
// Calls begin when all the owners are subscribed.
func (l *leader) checkMarks(t *testing.T, calls []call, subscribed ...hub.Owner) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	delivered := make(map[hub.Position]bool)
	for _, c := range calls {
		if c.event != nil {
			delivered[c.event.Position] = true
		}
		if c.mark == nil {
			continue
		}
		for p := c.mark.From + 1; p <= c.mark.Head; p++ {
			if owner := l.owners[p-1]; slices.Contains(subscribed, owner) && !delivered[p] {
				t.Errorf("the mark %d to %d came before the event at %d of %q", c.mark.From, c.mark.Head, p, owner)
			}
		}
	}
}
