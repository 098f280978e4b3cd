package hub_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/reelay/reelay/hub"
)

func TestSession_ResumesFromTheFeedWithoutAQuery(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		first := w.live("alice")
		for range 5 {
			w.publish("alice")
		}
		first.seesUpTo(1, 5)
		before := w.log.asked("read", "snapshot")
		for after := hub.Sequence(0); after <= 5; after++ {
			again, err := w.resume("alice", "first", after)
			if err != nil {
				w.Fatalf("resume after %d: %v", after, err)
			}
			again.seesUpTo(after+1, 5)
		}
		if asked := w.log.asked("read", "snapshot") - before; asked != 0 {
			w.Fatalf("resuming where the feed has all asked the log %d times, want 0", asked)
		}
	})
}

func TestSession_ResumesFromTheLog(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after hub.Sequence
	}{
		{"from the beginning", 0},
		{"a page and more behind", 100},
		{"one behind", 299},
		{"at the head", 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				for range 300 {
					w.append("alice")
					w.append("bob")
				}
				c, err := w.resume("alice", "first", test.after)
				if err != nil {
					w.Fatalf("resume: %v", err)
				}
				c.seesUpTo(test.after+1, 300)
				w.publish("alice")
				c.sees(301)
			})
		})
	}
}

func TestSession_ResumeIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		log   string
		after hub.Sequence
		want  hub.Reason
	}{
		{"too old", "first", 3, hub.ReasonTooOld},
		{"too old by one", "first", 9, hub.ReasonTooOld},
		{"in the future", "first", 13, hub.ReasonFuture},
		{"as far in the future as can be", "first", 1<<63 - 1, hub.ReasonFuture},
		{"of another log", "second", 12, hub.ReasonOtherLog},
		{"of another log and in the future", "second", 13, hub.ReasonOtherLog},
	} {
		for _, known := range []bool{false, true} { // whether the owner has a feed that is open
			name := test.name
			if known {
				name += ", with a feed"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				inWorld(t, func(w *world) {
					for range 10 {
						w.append("alice")
					}
					w.log.trim(w.log.position)
					w.append("alice")
					w.append("alice")
					if known {
						w.live("alice")
					}
					c, err := w.resume("alice", test.log, test.after)
					checkReset(w, err, test.want)
					w.publish("alice")
					c.sees() // it has no place
					if n := w.value("reelay_resets_total", string(test.want)); n != 1 {
						w.Fatalf("%v resets were counted, want 1", n)
					}
					_, cursor := c.snapshot()
					if cursor != (hub.Cursor{Log: "first", Sequence: 13}) {
						w.Fatalf("the snapshot's cursor is %v, want first.13", cursor)
					}
					w.publish("alice")
					c.sees(14)
				})
			})
		}
	}
}

// Events that are gone from the log do not matter to who has seen them all.
func TestSession_ResumesAfterMonthsWithoutEvents(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.append("alice")
		w.log.trim(w.log.position)
		c, err := w.resume("alice", "first", 1)
		if err != nil {
			w.Fatalf("resume at the head of a log that is trimmed: %v", err)
		}
		w.publish("alice")
		c.sees(2)
	})
}

func TestSession_SnapshotThenStream(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.append("alice")
		w.log.commit("alice", "a", []byte(`{"n":1}`)) // 2: in the rows, but not numbered yet
		w.log.commit("bob", "b", []byte(`{"n":1}`))
		w.log.commit("alice", "a", []byte(`{"n":2}`)) // 3: the same
		c := w.attach("alice")
		snapshot, cursor := c.snapshot()
		if len(snapshot.Rows) != 2 || string(snapshot.Rows[0].Data) != `{"n":2}` {
			w.Fatalf("the snapshot has rows %v, want the rows as they stand", snapshot.Rows)
		}
		if cursor != (hub.Cursor{Log: "first", Sequence: 1}) {
			w.Fatalf("the snapshot's cursor is %v, want first.1", cursor)
		}
		w.log.commit("alice", "a", []byte(`{"n":3}`)) // 4: after the snapshot, numbered with those before
		w.bus.send(w.log.number(1))
		w.publish("alice")
		c.sees(4, 5)
	})
}

// An event may be numbered before those that the snapshot contains, and yet be none of them.
func TestSession_SkipsPendingEventsAndNoOthers(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.commit("alice", "a", []byte(`{}`))
		w.log.commit("alice", "b", []byte(`{}`))
		c := w.attach("alice")
		c.snapshot()
		w.log.commit("alice", "c", []byte(`{}`))
		slices.Reverse(w.log.outbox) // its id was drawn first, and it was committed last
		w.bus.send(w.log.number(1))
		c.sees(1)
		w.publish("alice")
		c.sees(4)
	})
}

func TestSession_FilterAndPendingMeet(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.commit("alice", "a", []byte(`{}`))
		c := w.attach("alice")
		c.snapshot()
		c.Filter(map[string]struct{}{"a": {}})
		w.log.commit("alice", "b", []byte(`{}`))
		w.log.commit("alice", "a", []byte(`{}`))
		w.bus.send(w.log.number(1))
		c.sees(3)
		c.Filter(map[string]struct{}{})
		w.publish("alice")
		c.sees()
		c.Filter(nil)
		w.publish("alice")
		c.sees(5)
	})
}

func TestSession_LookupTellsOnlyOfOwnRows(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.commit("alice", "a", []byte(`{}`))
		w.log.commit("bob", "b", []byte(`{}`))
		c := w.attach("alice")
		found, err := c.Lookup(context.Background(), []string{"a", "b", "c"})
		if _, own := found["a"]; err != nil || !own || len(found) != 1 {
			w.Fatalf("lookup found %v with error %v, want a alone", found, err)
		}
		w.bus.send(w.log.number(1))
		c.sees() // a lookup gives no place
	})
}

func TestSession_CannotBePlacedWhileTheLogFails(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.attach("alice")
		w.log.fail(errAway)
		_, live := c.Live(context.Background())
		_, _, snapshot := c.Snapshot(context.Background(), nil)
		_, lookup := c.Lookup(context.Background(), nil)
		resume := c.Resume(context.Background(), hub.Cursor{Log: "first"})
		for _, err := range []error{live, snapshot, lookup, resume} {
			if !errors.Is(err, errAway) {
				w.Fatalf("got error %v, want that of the log", err)
			}
		}
		w.log.fail(nil)
		c.snapshot()
		w.publish("alice")
		c.sees(1)
	})
}

func TestSession_CloseEndsIt(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c, other := w.live("alice"), w.live("alice")
		w.publish("alice")
		c.Close()
		c.Close()
		if _, _, err := c.Next(); !errors.Is(err, hub.ErrClosed) {
			w.Fatalf("Next after Close says %v, want ErrClosed", err)
		}
		woken := c.woken.Load()
		w.publish("alice")
		other.sees(1, 2)
		if c.woken.Load() != woken {
			w.Fatalf("a closed session was woken")
		}
		if n := w.value("reelay_sessions"); n != 1 {
			w.Fatalf("%v sessions are counted after one of two was closed, want 1", n)
		}
	})
}
