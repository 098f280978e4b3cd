package hub_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/reelay/reelay/hub"
)

const (
	keptMost = 128 // events that a feed keeps at the most
	pageSize = 128 // events that one read brings at the most
)

// A session that takes nothing costs a cursor, whatever happens meanwhile, and then reads pages.
func TestSession_SlowOneCostsNoQueue(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		const many = 10_000
		slow, quick := w.live("alice"), w.live("alice")
		before := w.log.asked("read")
		var published []weak.Pointer[hub.Event]
		for n := range hub.Sequence(many) {
			batch := w.append("alice")
			event := clone(batch.Events[0])
			published = append(published, weak.Make(event))
			w.bus.call(func(r hub.Receiver) { r.Deliver(batch.Log, batch.Epoch, event) })
			w.bus.mark(batch)
			if n%10 == 0 {
				quick.seesUpTo(max(1, n-8), n+1)
			}
		}
		quick.seesUpTo(many-8, many)
		runtime.GC()
		kept := 0
		for _, event := range published {
			if event.Value() != nil {
				kept++
			}
		}
		if kept > keptMost {
			w.Fatalf("%d of %d events are kept for a session that takes none, want %d at the most", kept, many, keptMost)
		}
		if asked := w.log.asked("read") - before; asked != 0 {
			w.Fatalf("the log was read %d times for a session that takes nothing, want 0", asked)
		}
		slow.seesUpTo(1, many)
		if asked := w.log.asked("read") - before; asked > many/pageSize+1 {
			w.Fatalf("the log was read %d times for %d events, want %d at the most", asked, many, many/pageSize+1)
		}
	})
}

// Reconciliation lets go of what everybody has seen.
func TestFeed_KeepsNothingThatEverybodyHas(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		batch := w.append("alice")
		event := clone(batch.Events[0])
		kept := weak.Make(event)
		w.bus.call(func(r hub.Receiver) { r.Deliver(batch.Log, batch.Epoch, event) })
		event = nil
		w.bus.mark(batch)
		pass(reconcileEvery)
		runtime.GC()
		if kept.Value() == nil {
			w.Fatalf("an event that a session has not seen is not kept")
		}
		c.sees(1)
		pass(reconcileEvery)
		runtime.GC()
		if kept.Value() != nil {
			w.Fatalf("an event that every session has seen is kept")
		}
	})
}

func TestSession_IsOvertakenByRetention(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow, quick := w.live("alice"), w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		quick.seesUpTo(1, 1000)
		w.log.trim(w.log.position)
		slow.isReset(hub.ReasonTooOld)
		_, _, err := slow.Next() // and stays so until it has a place again
		checkReset(w, err, hub.ReasonTooOld)
		w.publish("alice")
		quick.sees(1001)
		slow.snapshot()
		w.publish("alice")
		slow.sees(1002)
		quick.sees(1002)
	})
}

// What the session has read stays good, however old: it loses its place where the hole is.
func TestSession_IsOvertakenByRetentionInTheMidstOfAPage(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow := w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		if event, _, err := slow.Next(); event != nil || err != nil { // begins to read
			w.Fatalf("got event %v and error %v, want none yet", event, err)
		}
		synctest.Wait()
		w.log.trim(w.log.position)
		events, err := slow.take()
		checkReset(w, err, hub.ReasonTooOld)
		if len(events) != pageSize || events[0].Sequence != 1 {
			w.Fatalf("the session got %d events before its reset, want the page of %d", len(events), pageSize)
		}
	})
}

// The feed itself lacks an event that is not kept any more: who has not seen it is told, who comes later is not.
func TestFeed_IsOvertakenByRetention(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)
		w.append("alice")
		w.append("alice")
		w.log.trim(w.log.position)
		w.publish("alice") // 4: a hole that nothing can fill
		c.isReset(hub.ReasonTooOld)
		late, err := w.resume("alice", "first", 3)
		if err != nil {
			w.Fatalf("resume: %v", err)
		}
		late.sees(4)
		w.publish("alice")
		late.sees(5)
	})
}

func TestSession_ReadsOnWhenTheLogFailedForAWhile(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow := w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		w.log.fail(errAway)
		for range 10 {
			slow.sees()
			pass(time.Second)
		}
		w.log.fail(nil)
		pass(time.Second)
		slow.seesUpTo(1, 1000)
	})
}

// A session is placed anew while it reads: the page is of its old place.
func TestSession_IsPlacedAnewWhileItReads(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow := w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		release := w.log.hold("read")
		slow.sees()
		slow.snapshot()
		w.publish("alice")
		slow.sees(1001)
		release()
		slow.sees()
		w.publish("alice")
		slow.sees(1002)
	})
}

// The same, and the new place is before the old one: what was read for that does not follow.
func TestSession_IsPlacedBackWhileItReads(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for range 1000 {
			w.append("alice")
		}
		c, err := w.resume("alice", "first", 100)
		if err != nil {
			w.Fatalf("resume: %v", err)
		}
		for range pageSize {
			if event, _, err := c.Next(); event == nil || err != nil {
				w.Fatalf("got event %v and error %v, want the first page", event, err)
			}
		}
		release := w.log.holdNext("read")
		c.sees() // reads the next page
		if err := c.Resume(context.Background(), hub.Cursor{Log: "first"}); err != nil {
			w.Fatalf("resume: %v", err)
		}
		release()
		synctest.Wait()
		c.seesUpTo(1, 1000)
	})
}

func TestSession_IsClosedWhileItReads(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow := w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		release := w.log.hold("read")
		slow.sees()
		slow.Close()
		woken := slow.woken.Load()
		release()
		synctest.Wait()
		if slow.woken.Load() != woken {
			w.Fatalf("a session was woken long after it was closed")
		}
	})
}
