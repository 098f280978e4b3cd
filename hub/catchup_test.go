package hub_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/hub"
)

// These are the hub's own times, said once more: a test of a promise does not believe the code.
const (
	pollEvery      = 250 * time.Millisecond
	silentAfter    = 2 * time.Second
	reconcileEvery = 15 * time.Second
	lingerFor      = 5 * time.Second
)

func TestHub_CatchesUpOnAGapInTheMarks(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.publish("alice")
		w.append("alice") // the event and its mark are lost
		c.sees(1)
		w.publish("bob") // the next mark begins after it
		c.sees(2)
		if n := w.value("reelay_hub_catch_ups_total", "gap"); n != 1 {
			w.Fatalf("%v catch-ups for a gap were counted, want 1", n)
		}
		if n := w.value("reelay_hub_position"); n != 3 {
			w.Fatalf("the hub is at position %v, want 3", n)
		}
	})
}

func TestHub_MarksThatConnectAskNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		before := w.log.asked("read", "changes", "heads", "position")
		for range 10 {
			w.publish("alice")
			w.publish("bob")
			w.bus.send(w.log.number(1)) // a heartbeat
		}
		c.seesUpTo(1, 10)
		if asked := w.log.asked("read", "changes", "heads", "position") - before; asked != 0 {
			w.Fatalf("the log was asked %d times while nothing was missing, want 0", asked)
		}
	})
}

func TestHub_ReadsTheLogWhileTheBusIsDown(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)
		w.bus.down(errAway)
		for n := range hub.Sequence(20) {
			w.append("alice")
			pass(pollEvery)
			c.sees(n + 2)
		}
		if n := w.value("reelay_hub_bus_up"); n != 0 {
			w.Fatalf("the bus counts as up while it is down")
		}
	})
}

func TestHub_ReadsTheLogUntilTheBusIsFirstUp(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.append("alice")
		pass(pollEvery)
		c.sees(1)
	}, func(w *world) { w.bus.starting = true })
}

func TestHub_CatchesUpWhenTheBusIsUpAgain(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.bus.down(errAway)
		synctest.Wait()
		w.append("alice")
		w.bus.up()
		c.sees(1)
		if n := w.value("reelay_hub_bus_up"); n != 1 {
			w.Fatalf("the bus counts as down while it is up")
		}
	})
}

// A bus that says it is up, and brings no mark of a leader, is not believed for long.
func TestHub_ReadsTheLogWhileTheBusIsSilent(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)
		w.append("alice")
		pass(silentAfter)
		c.sees()
		pass(pollEvery)
		c.sees(2)
		w.append("alice")
		pass(pollEvery)
		c.sees(3)
		w.bus.send(w.log.number(1)) // a heartbeat ends the silence
		before := w.log.asked("changes")
		pass(silentAfter)
		if asked := w.log.asked("changes") - before; asked > 0 {
			w.Fatalf("the log was asked %d times although the bus is heard, want 0", asked)
		}
	})
}

// A bus that was up all the time may say Up again: it had another connection.
func TestHub_CatchesUpWhenTheBusIsUpOnceMore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.append("alice")
		w.bus.up()
		c.sees(1)
	})
}

// A connection brings marks before all its subscriptions are confirmed. They do not speak for what was published then.
func TestHub_MarkBeforeUpSpeaksForNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.bus.down(errAway)
		synctest.Wait()
		w.bus.mark(w.append("alice"))
		w.bus.up()
		c.sees(1)
	})
}

// A batch may be published while the bus comes up: its events are lost, its mark is not.
func TestHub_MarkAcrossUpSpeaksForNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.bus.down(errAway)
		synctest.Wait()
		batch := w.append("alice")
		w.bus.call(func(r hub.Receiver) {
			r.Up()
			r.Advance(hub.Mark{Log: batch.Log, Epoch: batch.Epoch, From: batch.From, Head: batch.Head})
		})
		c.sees(1)
		w.publish("alice")
		c.sees(2)
	})
}

func TestHub_RunReturnsTheErrorOfTheBus(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.bus.broken <- errAway
		err := <-w.ended
		w.ended <- nil // for stop
		if !errors.Is(err, errAway) {
			w.Fatalf("Run returned %v, want the error of the bus", err)
		}
	})
}
