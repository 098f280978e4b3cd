package hub_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/reelay/reelay/hub"
)

// Whatever was once said may be said again by somebody else, in any order, and changes nothing: no position, no epoch,
// no event twice, no read of the log.
func TestHub_ReplayChangesNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c, bob := w.live("alice"), w.live("bob")
		var past []hub.Batch
		for epoch := range hub.Epoch(3) {
			for range 20 {
				w.log.commit("alice", "v", []byte(`{}`))
				w.log.commit("bob", "v", []byte(`{}`))
				batch := w.log.number(epoch + 1)
				past = append(past, batch)
				w.bus.send(batch)
			}
		}
		c.seesUpTo(1, 60)
		bob.seesUpTo(1, 60)
		reads := func() int { return w.log.asked("read", "newest", "changes", "heads", "position") }
		asked := reads()
		for range 500 {
			batch := past[rand.N(len(past))]
			switch rand.N(3) {
			case 0:
				w.bus.mark(batch)
			case 1:
				w.bus.events(batch)
			default:
				w.bus.send(batch)
			}
		}
		synctest.Wait()
		c.sees()
		bob.sees()
		if n := w.value("reelay_hub_position"); n != 120 {
			t.Errorf("the position is %v, want 120", n)
		}
		if n := reads() - asked; n > 0 {
			t.Errorf("the log was asked %d times", n)
		}
		if w.value("reelay_hub_duplicates_total") == 0 || w.value("reelay_hub_refused_total", "old_epoch") == 0 {
			t.Error("nothing of what was repeated was refused")
		}
		// The epoch is what it was: the one before is still refused, and the same still heard.
		stale := w.append("alice")
		stale.Epoch = 2
		w.bus.send(stale)
		c.sees()
		stale.Epoch = 3
		w.bus.send(stale)
		c.sees(61)
	})
}

// A replica that has just come, and is told old things first, ends up where the log is.
func TestHub_ReplayToANewReplicaChangesNothing(t *testing.T) {
	t.Parallel()
	var past []hub.Batch
	inWorld(t, func(w *world) {
		c := w.live("alice")
		for _, batch := range past {
			w.bus.send(batch)
		}
		c.sees()
		if n := w.value("reelay_hub_position"); n != 10 {
			t.Errorf("the position is %v, want 10", n)
		}
		next := w.append("alice")
		next.Epoch = 2
		w.bus.send(next)
		c.sees(11)
	}, func(w *world) {
		for n := range 10 {
			batch := w.append("alice")
			batch.Epoch = hub.Epoch(n/5 + 1)
			past = append(past, batch)
		}
	})
}
