package hub_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/reelay/reelay/hub"
)

func TestHub_DeliversToEverySessionOfTheOwnerAndNobodyElse(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		tab, phone, bob := w.live("alice"), w.live("alice"), w.live("bob")
		for range 10 {
			w.publish("alice")
		}
		w.publish("bob")
		bob.sees(1) // the marker: nothing of alice came before
		tab.seesUpTo(1, 10)
		phone.seesUpTo(1, 10)
		if n := w.value("reelay_events_delivered_total"); n != 21 {
			w.Fatalf("%v events were counted as delivered, want 21", n)
		}
	})
}

// More sessions than the hub wakes without an allocation.
func TestHub_DeliversToManySessions(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var clients []*client
		for range 20 {
			clients = append(clients, w.live("alice"))
		}
		w.publish("alice")
		for _, c := range clients[:10] {
			c.sees(1)
			c.Close()
		}
		w.publish("alice")
		for _, c := range clients[10:] {
			c.sees(1, 2)
		}
	})
}

func TestHub_DropsWhatItHas(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		one, two := w.append("alice"), w.append("alice")
		for _, batch := range []hub.Batch{one, one, two, one, two} {
			w.bus.send(batch)
		}
		c.sees(1, 2)
		if n := w.value("reelay_hub_duplicates_total"); n != 3 {
			w.Fatalf("%v duplicates were counted, want 3", n)
		}
	})
}

func TestHub_FillsAHole(t *testing.T) {
	t.Parallel()
	for _, lost := range []int{1, 3, 500} {
		t.Run(fmt.Sprintf("%d lost", lost), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c := w.live("alice")
				w.publish("alice")
				for range lost {
					w.append("alice")
				}
				w.bus.events(w.append("alice"))
				c.seesUpTo(1, hub.Sequence(lost+2))
				w.publish("alice")
				c.sees(hub.Sequence(lost + 3))
				if n := w.value("reelay_hub_holes_total"); n != 1 {
					w.Fatalf("%v holes were counted, want 1", n)
				}
			})
		})
	}
}

// What is lost behind the event that shows the hole is found by the way.
func TestHub_FillsUpToTheHeadOfTheLog(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		var batches []hub.Batch
		for range 500 {
			batches = append(batches, w.append("alice"))
		}
		w.bus.events(batches[299])
		c.seesUpTo(1, 500)
	})
}

// The bus goes on while a feed reads the log, and the answer of the log is old when it comes.
func TestHub_HoleSeenWhileAnotherIsFilled(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		one, two := w.append("alice"), w.append("alice")
		release := w.log.hold("read")
		w.bus.events(two) // one is late: a hole, and a read that answers 1 and 2
		synctest.Wait()
		w.bus.events(one)
		w.bus.events(two)
		c.sees(1, 2)
		w.append("alice") // 3 is lost
		w.bus.events(w.append("alice"))
		release()
		c.sees(3, 4)
	})
}

// What the bus has brought meanwhile stays with the feed: the read was for nothing, and costs no further one.
func TestHub_FillingThatTheBusOvertakesCostsNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c, slow := w.live("alice"), w.live("alice")
		one, two := w.append("alice"), w.append("alice")
		release := w.log.hold("read")
		w.bus.events(two)
		synctest.Wait()
		before := w.log.asked("read")
		w.bus.events(one)
		w.bus.events(two)
		w.publish("alice")
		c.sees(1, 2, 3)
		release()
		synctest.Wait()
		slow.sees(1, 2, 3)
		if asked := w.log.asked("read") - before; asked != 0 {
			w.Fatalf("the log was read %d times more, want 0", asked)
		}
	})
}

func TestHub_MessageBetweenSubscriptionAndFirstReadIsNotLost(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.attach("alice")
		release := w.log.hold("snapshot")
		var placed sync.WaitGroup
		placed.Go(func() { c.snapshot() })
		synctest.Wait()    // the snapshot is taken, and on its way
		w.publish("alice") // nothing is known of the feed yet
		release()
		placed.Wait()
		c.sees(1)
	})
}

func TestHub_RefusesALeaderThatWasReplaced(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		epoch := func(n hub.Epoch, batch hub.Batch) hub.Batch {
			batch.Epoch = n
			return batch
		}
		w.bus.send(epoch(1, w.append("alice")))
		w.bus.send(epoch(3, w.append("alice")))
		stale := w.append("alice")
		w.bus.send(epoch(2, stale))
		c.sees(1, 2)
		if n := w.value("reelay_hub_refused_total", "old_epoch"); n != 2 { // the event and the mark
			w.Fatalf("%v refusals were counted, want 2", n)
		}
		w.bus.send(epoch(3, stale))
		c.sees(3)
	})
}

// A wake that takes its time holds up the goroutine that calls it, and no lock: owners share none while they are woken.
// There are more owners than the hub has parts, so that some share all that owners can share.
func TestHub_OwnersDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		stuck := make(chan struct{})
		blocked, err := w.hub.Attach(context.Background(), "alice", func() { <-stuck }, hub.Options{})
		if err != nil {
			w.Fatalf("attach: %v", err)
		}
		defer blocked.Close()
		if _, err := blocked.Live(context.Background()); err != nil {
			w.Fatalf("live: %v", err)
		}
		var others []*client
		for i := range 200 {
			others = append(others, w.live(hub.Owner(fmt.Sprint("other", i))))
		}
		alices, batch := w.append("alice"), hub.Batch{}
		for i := range others {
			next := w.append(hub.Owner(fmt.Sprint("other", i)))
			batch.Log, batch.Epoch, batch.Events = next.Log, next.Epoch, slices.Concat(batch.Events, next.Events)
		}

		var held sync.WaitGroup
		held.Go(func() { w.hub.Deliver("first", 1, alices.Events[0]) })
		synctest.Wait()
		release := w.log.hold("read") // and nobody waits for a read of another
		for _, event := range batch.Events {
			w.hub.Deliver(batch.Log, batch.Epoch, event)
		}
		for _, other := range others {
			other.sees(1)
			other.Close()
		}
		w.attach("carol").Close()
		w.attach("alice").Close()
		release()
		close(stuck)
		held.Wait()
	})
}
