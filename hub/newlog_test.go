package hub_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/hub"
)

func TestHub_RefusesAForeignLog(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		stranger := newFakeLog()
		stranger.rename("stranger", 0)
		before := w.value("reelay_hub_catch_ups_total")
		for range 100 {
			w.bus.send(stranger.append("alice", "v"))
		}
		c.sees()
		if n := w.value("reelay_hub_refused_total", "other_log"); n != 200 { // events and marks
			w.Fatalf("%v refusals were counted, want 200", n)
		}
		if asked := w.value("reelay_hub_catch_ups_total") - before; asked != 1 {
			w.Fatalf("a hundred messages of a stranger made the hub ask the log %v times, want 1", asked)
		}
		w.publish("alice")
		c.sees(1)
	})
}

func TestHub_AdoptsANewLog(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		seen, behind, unplaced := w.live("alice"), w.live("alice"), w.attach("alice")
		silent := w.live("bob")
		for range 5 {
			w.publish("alice")
		}
		seen.seesUpTo(1, 5)
		w.log.rename("second", 2) // alice's 4 and 5 are lost, and will be others
		w.publish("alice")        // 4
		for _, c := range []*client{seen, behind, silent} {
			c.isReset(hub.ReasonOtherLog)
		}
		for _, c := range []*client{seen, behind, unplaced} {
			_, cursor := c.snapshot()
			if cursor != (hub.Cursor{Log: "second", Sequence: 4}) {
				w.Fatalf("the snapshot's cursor is %v, want second.4", cursor)
			}
		}
		silent.snapshot()
		w.publish("alice")
		w.publish("bob")
		for _, c := range []*client{seen, behind, unplaced} {
			c.sees(5)
		}
		silent.sees(1)
	})
}

// A leader of the new log begins with an epoch of its own, which may be lower.
func TestHub_NewLogBeginsANewCountOfEpochs(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		batch := w.append("alice")
		batch.Epoch = 7
		w.bus.send(batch)
		w.log.rename("second", 0)
		w.publish("alice")
		c.isReset(hub.ReasonOtherLog)
		c.snapshot()
		w.publish("alice") // epoch 1
		c.sees(3)
	})
}

// The bus is silent about it: whoever reads the log finds out.
func TestHub_LearnsOfANewLogByReading(t *testing.T) {
	t.Parallel()
	for name, find := range map[string]func(*world){
		"a session": func(w *world) { w.attach("carol").snapshot() },
		"a hole": func(w *world) {
			stale := hub.Event{Owner: "alice", Sequence: 9}
			w.bus.events(hub.Batch{Log: "first", Epoch: 1, Events: []*hub.Event{&stale}})
		},
		"the bus coming up": func(w *world) { w.bus.up() },
		"time, although a leader of the old log goes on": func(w *world) {
			for range reconcileEvery / time.Second {
				w.bus.mark(hub.Batch{Log: "first", Epoch: 1, From: 1, Head: 1})
				pass(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c := w.live("alice")
				w.live("carol")
				w.publish("alice")
				c.sees(1)
				w.log.rename("second", 0)
				find(w)
				c.isReset(hub.ReasonOtherLog)
				c.snapshot()
				w.publish("alice")
				c.sees(2)
			})
		})
	}
}

// A slow session reads the log for itself, and finds another one there. It hands out nothing of that.
func TestHub_LearnsOfANewLogByASlowSession(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow := w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		w.log.rename("second", 0)
		release := w.log.hold("position") // the hub takes its time
		slow.sees()
		pass(3 * time.Second)
		slow.sees()
		release()
		slow.isReset(hub.ReasonOtherLog)
		slow.snapshot()
		w.publish("alice")
		slow.sees(1001)
	})
}

// The hub learns the log's name by a read, and refuses what it is sent until the answer is there. The answer may be
// older than what was refused.
func TestHub_WhatIsRefusedWhileTheNameIsLearntIsNotLost(t *testing.T) {
	t.Parallel()
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		var release func()
		inWorld(t, func(w *world) {
			c := w.live("alice")
			w.publish("alice") // refused, with its mark; the name is on its way
			release()
			synctest.Wait()
			c.sees(1)
		}, func(w *world) { release = w.log.hold("position") })
	})
	t.Run("the mark comes after the name", func(t *testing.T) {
		t.Parallel()
		var release func()
		inWorld(t, func(w *world) {
			c := w.live("alice")
			batch := w.append("alice")
			w.bus.events(batch)
			release()
			synctest.Wait()
			w.bus.mark(batch)
			c.sees(1)
		}, func(w *world) { release = w.log.hold("position") })
	})
	t.Run("a new log", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			c := w.live("alice")
			w.publish("alice")
			c.sees(1)
			c.Close() // the feed lingers
			w.log.rename("second", 0)
			release := w.log.hold("heads")
			w.publish("alice") // 2 is refused: the hub learns the name, and is about to move the feed to 2
			batch := w.append("alice")
			w.bus.events(batch)
			release()
			synctest.Wait()
			w.bus.mark(batch)
			resumed, err := w.resume("alice", "second", 2)
			if err != nil {
				w.Fatalf("resume: %v", err)
			}
			resumed.sees(3)
		})
	})
}

// A session's first read is answered by the old log and arrives when the hub is on the new one.
func TestHub_FeedThatOpensOnTheOldLogIsMoved(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.append("alice")
		c := w.attach("alice")
		release := w.log.hold("snapshot")
		var placed sync.WaitGroup
		placed.Go(func() { c.snapshot() })
		synctest.Wait()
		w.log.rename("second", 0)
		w.publish("bob") // the hub moves
		release()
		placed.Wait()
		c.isReset(hub.ReasonOtherLog)
		c.snapshot()
		w.publish("alice")
		c.sees(2)
	})
}

// While the hub does not know yet that the log is another one, a session that does is placed all the same.
func TestSession_SnapshotOfANewLogWaitsForTheHub(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.live("alice") // a feed on the old log
		w.log.rename("second", 0)
		release := w.log.hold("position")
		one, two := w.attach("alice"), w.attach("alice")
		var placed sync.WaitGroup
		placed.Go(func() { one.snapshot() })
		placed.Go(func() {
			if _, err := two.Live(context.Background()); err != nil {
				w.Errorf("live: %v", err)
			}
			two.wake()
		})
		pass(100 * time.Millisecond)
		release()
		placed.Wait()
		synctest.Wait()
		w.publish("alice")
		one.sees(1)
		two.sees(1)
	})
}
