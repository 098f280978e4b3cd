package hub_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/hub"
)

// brokenLog is a log whose pages have events of others among their own, as those of a query that forgot the owner.
type brokenLog struct {
	*fakeLog

	spoil func([]*hub.Event) []*hub.Event
}

func (l *brokenLog) Read(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (hub.Page, error) {
	page, err := l.fakeLog.Read(ctx, owner, after, limit)
	page.Events = l.spoil(page.Events)
	return page, err
}

func (l *brokenLog) Newest(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (hub.Page, error) {
	page, err := l.fakeLog.Newest(ctx, owner, after, limit)
	page.Events = l.spoil(page.Events)
	return page, err
}

// inBrokenWorld is inWorld with a log whose pages are spoiled, and everything logged. Every event but hers is a
// stranger's.
func inBrokenWorld(t *testing.T, spoil func([]*hub.Event) []*hub.Event, test func(w *world)) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		w := &world{tb: t, log: newFakeLog(), bus: newFakeBus(), metrics: prometheus.NewRegistry(), ended: make(chan error, 1)}
		logger := slog.New(slog.NewTextHandler(&out, nil))
		w.hub = hub.New(w.bus, &brokenLog{w.log, spoil}, logger, hub.NewMetrics(w.metrics))
		ctx, cancel := context.WithCancel(context.Background())
		w.end = cancel
		go func() { w.ended <- w.hub.Run(ctx) }() // stop waits for it
		t.Cleanup(w.stop)
		synctest.Wait()
		test(w)
		w.stop()
		if text := out.String(); strings.Count(text, "another owner") != 1 || strings.Contains(text, "stranger") {
			t.Errorf("want one line that names nobody, got:\n%s", text)
		}
		if w.value("reelay_hub_foreign_total") < 1 {
			t.Error("nothing was counted")
		}
	})
}

// stranger returns an event of somebody else's, in the place of one of hers.
func stranger(hers *hub.Event) *hub.Event {
	his := clone(hers)
	his.Owner, his.Subject = "stranger", "a stranger's video"
	return his
}

// beside puts a stranger's event before each of hers, and some behind the last.
func beside(events []*hub.Event) (spoiled []*hub.Event) {
	for _, event := range events {
		spoiled = append(spoiled, stranger(event), event)
	}
	if n := len(events); n > 0 {
		next := stranger(events[n-1])
		next.Sequence++
		spoiled = append(spoiled, stranger(events[n-1]), next)
	}
	return spoiled
}

// instead puts a stranger's event in the place of each of hers.
func instead(events []*hub.Event) (spoiled []*hub.Event) {
	for _, event := range events {
		spoiled = append(spoiled, stranger(event))
	}
	return spoiled
}

// seesOnlyHers checks that the client gets exactly these events now, and that they are alice's.
func (c *client) seesOnlyHers(want ...hub.Sequence) {
	c.w.Helper()
	events, err := c.take()
	var got []hub.Sequence
	for _, event := range events {
		if event.Owner != "alice" {
			c.w.Fatalf("alice got an event of %q", event.Owner)
		}
		got = append(got, event.Sequence)
	}
	if err != nil || !slices.Equal(got, want) {
		c.w.Fatalf("the client got events %v and error %v, want %v", got, err, want)
	}
}

// A log that returns events of others beside hers: she gets all of hers and none of theirs, by whichever way she reads.
func TestHub_KeepsForeignEventsOfTheLogFromSessions(t *testing.T) {
	t.Parallel()
	t.Run("who resumes", func(t *testing.T) {
		t.Parallel()
		inBrokenWorld(t, beside, func(w *world) {
			for range 300 { // several pages
				w.append("alice")
			}
			c, err := w.resume("alice", "first", 0)
			if err != nil {
				t.Fatal(err)
			}
			var all []hub.Sequence
			for n := range hub.Sequence(300) {
				all = append(all, n+1)
			}
			c.seesOnlyHers(all...)
			w.publish("alice")
			c.seesOnlyHers(301)
		})
	})
	t.Run("who resumes conflated", func(t *testing.T) {
		t.Parallel()
		inBrokenWorld(t, beside, func(w *world) {
			for _, subject := range []string{"a", "b", "a", "c"} {
				w.log.append("alice", subject)
			}
			c := w.attachWith("alice", hub.Options{Conflate: true})
			if err := c.Resume(context.Background(), hub.Cursor{Log: "first"}); err != nil {
				t.Fatal(err)
			}
			c.awake.Store(true)
			c.seesOnlyHers(2, 3, 4)
		})
	})
	t.Run("whose feed fills a hole", func(t *testing.T) {
		t.Parallel()
		inBrokenWorld(t, beside, func(w *world) {
			c := w.live("alice")
			w.append("alice")
			w.append("alice")
			w.bus.events(w.append("alice"))
			c.seesOnlyHers(1, 2, 3)
			late, err := w.resume("alice", "first", 0) // from what the feed keeps
			if err != nil {
				t.Fatal(err)
			}
			late.seesOnlyHers(1, 2, 3)
			w.publish("alice")
			c.seesOnlyHers(4)
			if n := w.value("reelay_hub_foreign_total"); n != 5 { // three beside hers, two behind them
				t.Errorf("%v events were counted, want 5", n)
			}
		})
	})
}

// A log that returns events of others and none of hers: what she has missed cannot be told, and she is told that.
func TestHub_PagesOfForeignEventsAreNoPlace(t *testing.T) {
	t.Parallel()
	t.Run("who resumes", func(t *testing.T) {
		t.Parallel()
		inBrokenWorld(t, instead, func(w *world) {
			w.append("alice")
			_, err := w.resume("alice", "first", 0)
			checkReset(w, err, hub.ReasonTooOld)
		})
	})
	t.Run("who resumes and whose first is missing", func(t *testing.T) {
		t.Parallel()
		first := func(events []*hub.Event) []*hub.Event { return slices.Concat(instead(events[:1]), events[1:]) }
		inBrokenWorld(t, first, func(w *world) {
			for range 3 {
				w.append("alice")
			}
			_, err := w.resume("alice", "first", 0)
			checkReset(w, err, hub.ReasonTooOld)
		})
	})
	t.Run("who is live", func(t *testing.T) {
		t.Parallel()
		inBrokenWorld(t, instead, func(w *world) {
			c := w.live("alice")
			w.append("alice")
			w.bus.events(w.append("alice"))
			c.isReset(hub.ReasonTooOld)
			if _, cursor := c.snapshot(); cursor.Sequence != 2 {
				t.Errorf("the snapshot's cursor is %s", cursor)
			}
			before := w.log.asked("read")
			w.publish("alice")
			c.seesOnlyHers(3)
			if n := w.log.asked("read") - before; n > 0 {
				t.Errorf("the log was read %d times more", n)
			}
		})
	})
}

// The bus hands over events of others, and goes on writing to events that it has handed over.
func TestHub_KeepsForeignEventsOfTheBusFromSessions(t *testing.T) {
	t.Parallel()
	nothing := func(events []*hub.Event) []*hub.Event { return events }
	inBrokenWorld(t, nothing, func(w *world) {
		alice, slow := w.live("alice"), w.live("alice")
		w.live("bob")
		for n := range hub.Sequence(3) {
			w.hub.Deliver("first", 1, &hub.Event{Owner: "bob", Sequence: n + 1, Position: hub.Position(n + 1)})
			w.hub.Deliver("first", 1, &hub.Event{Owner: "stranger", Sequence: n + 1, Position: hub.Position(n + 1)})
		}
		first := &hub.Event{Owner: "alice", Sequence: 1, Position: 4}
		w.hub.Deliver("first", 1, first)
		alice.seesOnlyHers(1)
		first.Owner = "stranger"
		w.hub.Deliver("first", 1, &hub.Event{Owner: "alice", Sequence: 2, Position: 5})
		slow.seesOnlyHers(2)
		alice.seesOnlyHers(2)
		if n := w.value("reelay_hub_foreign_total"); n != 1 {
			t.Errorf("%v events were counted, want 1", n)
		}
	})
}
