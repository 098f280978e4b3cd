package redisbus_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// The leader's link swallows packets, and later hands over what it held: nothing is delivered that a mark vouched for
// before, and no mark comes that vouches for something that is not here.
func TestPublish_LateBytesDoNoHarm(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	link := newProxy(t, server.Addr())
	replica, leader := start(t, server.URL()), lead(t, link.url())
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	leader.mustPublish(t, "alice")
	leader.quiet.Store(true)
	for range 3 {
		link.holdExisting()
		lost, err := leader.publish("alice", "bob", "alice")
		if err == nil {
			t.Error("Publish into a black hole worked")
		}
		leader.checkPublishTimes(t)
		from := len(replica.all())
		next := leader.mustPublish(t, "bob") // over a new connection, before the bytes of the one that failed
		replica.await(t, "mark", from, isMarkTo(next))
		link.release()
		late := replica.await(t, "late event", from, isEventAt(lost))
		replica.await(t, "mark", late, isMarkTo(leader.mustPublish(t, "alice")))
		if n := count(replica.all(), vouchesFor(lost)); n > 0 {
			t.Errorf("a mark to %d came, whose publication had failed", lost)
		}
	}
	leader.checkMarks(t, replica.all()[up:], "alice", "bob")
}

// Redis refuses the events and takes the mark: then the mark may not be sent.
func TestPublish_NoMarkForEventsThatRedisRefused(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	client := admin(t, server.URL())
	if err := client.Do(t.Context(), "ACL", "SETUSER", "leader", "on", ">pw", "+@all", "resetchannels",
		"&reelay:{0}:control").Err(); err != nil {
		t.Fatal(err)
	}
	replica, leader := start(t, server.URL()), lead(t, strings.Replace(server.URL(), "redis://", "redis://leader:pw@", 1))
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	refused, err := leader.publish("alice", "bob")
	if err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Fatalf("Publish returned %v, want what Redis said", err)
	}
	client.Do(t.Context(), "ACL", "SETUSER", "leader", "allchannels")
	next := leader.mustPublish(t, "alice")
	replica.await(t, "mark", up, isMarkTo(next))
	if n := count(replica.all(), vouchesFor(refused)); n > 0 {
		t.Error("a mark came for events that Redis had refused")
	}
	leader.checkMarks(t, replica.all()[up:], "alice")
}

// One event that cannot be carried does not hold up the others, and is not vouched for.
func TestPublish_AnnouncesWhatItCannotCarry(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	for name, spoil := range map[string]func(*hub.Event){
		"type of the gateway": func(e *hub.Event) { e.Type = "reelay.reset" },
		"too large":           func(e *hub.Event) { e.Data = []byte(`"` + strings.Repeat("x", 9<<20) + `"`) },
		"no JSON":             func(e *hub.Event) { e.Data = []byte(`{`) },
	} {
		from := len(replica.all())
		n := 0
		last, err := leader.publishWith(func(e *hub.Event) {
			if n++; n == 2 {
				spoil(e)
			}
		}, "alice", "alice", "alice")
		if err != nil {
			t.Errorf("%s: Publish returned %v", name, err)
		}
		at := replica.await(t, "mark", from, isMarkTo(last))
		if mark := replica.all()[at].mark; mark.From != last {
			t.Errorf("%s: the mark is from %d, want %d: it vouches for what was not published", name, mark.From, last)
		}
		replica.await(t, "event before it", from, isEventAt(last-2))
		replica.await(t, "event behind it", from, isEventAt(last))
	}
	if got := leader.metric(t, "reelay_bus_events_unpublishable_total"); got != 3 {
		t.Errorf("%v events were counted as unpublishable, want 3", got)
	}
	leader.checkMarks(t, replica.all()[up:], "alice")
}

// Several callers at once, against a Redis that does not answer: none waits longer than one alone would.
func TestPublish_NeverBlocksLong(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	hole := newProxy(t, server.Addr())
	leader := start(t, hole.url())
	eventually(t, "Publish works", func() bool { return leader.Publish(t.Context(), hub.Batch{Log: "l"}) == nil })
	batch := hub.Batch{Log: "l", Head: 2500} // three pipelines
	for i := range batch.Head {
		batch.Events = append(batch.Events, &hub.Event{
			Position: i + 1, Sequence: 1, Owner: "alice", Type: "t", Data: []byte(`{"a":"b"}`),
		})
	}
	failures := func() float64 { return leader.metric(t, "reelay_bus_publish_errors_total") }
	before := failures()
	hole.hold()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			within(t, publishLimit, "Publish into a black hole", func() {
				if err := leader.Publish(t.Context(), batch); err == nil {
					t.Error("Publish into a black hole worked")
				}
			})
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	within(t, slack, "Publish with a context that has ended", func() {
		if err := leader.Publish(ctx, batch); err == nil {
			t.Error("Publish worked with a context that had ended")
		}
	})
	if got := failures() - before; got != 5 {
		t.Errorf("%v failures were counted, want 5", got)
	}
	hole.release()
	eventually(t, "Publish works again", func() bool { return leader.Publish(t.Context(), batch) == nil })
	// A publication under way does not hold up the end of Run.
	hole.hold()
	wg.Go(func() { _ = leader.Publish(t.Context(), hub.Batch{Log: "l"}) })
	eventually(t, "a publication is under way", func() bool { return hole.stuck.Load() > 0 })
	within(t, 400*time.Millisecond, "the end of Run", leader.stop)
	wg.Wait()
}
