package redisbus_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// What Subscribe's return promises: the very next event arrives.
func TestSubscribe_ReturnsWhenEventsArrive(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	var wg sync.WaitGroup
	for _, owner := range owners(2000) {
		wg.Go(func() {
			replica.subscribe(t, owner)
			leader.mustPublish(t, owner)
		})
	}
	wg.Wait()
	replica.await(t, "last mark", up, isMarkTo(leader.mustPublish(t)))
	arrived := make(map[hub.Owner]bool)
	for _, c := range replica.all() {
		if c.event != nil {
			arrived[c.event.Owner] = true
		}
	}
	if len(arrived) != 2000 {
		t.Errorf("events of %d owners arrived, want 2000", len(arrived))
	}
}

// An owner who leaves and comes back at once is subscribed, however the commands and their confirmations interleave.
func TestSubscribe_AfterUnsubscribeEndsSubscribed(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	var wg sync.WaitGroup
	for _, owner := range owners(8) {
		wg.Go(func() {
			for range 400 {
				for range rand.N(3) { // comes and goes, with nobody waiting for the confirmation
					ctx, cancel := context.WithCancel(context.Background())
					gone := make(chan struct{})
					go func() { defer close(gone); _ = replica.Subscribe(ctx, owner) }()
					if rand.N(2) == 0 {
						replica.Unsubscribe(owner)
					}
					cancel()
					<-gone
					replica.Unsubscribe(owner)
				}
				replica.subscribe(t, owner)
				from := len(replica.all())
				replica.await(t, "event", from, isEventAt(leader.mustPublish(t, owner)))
				replica.Unsubscribe(owner)
			}
		})
	}
	wg.Wait()
	if n := count(replica.all()[up:], isDown); n > 0 {
		t.Errorf("Down was called %d times", n)
	}
	eventually(t, "the bus has forgotten all", func() bool { return replica.metric(t, "reelay_bus_subscriptions") == 0 })
}

// After Unsubscribe nothing more is delivered, and Redis sends nothing more.
func TestUnsubscribe_EndsDelivery(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	client := admin(t, server.URL())
	for range 200 {
		replica.subscribe(t, "alice")
		from := len(replica.all())
		replica.Unsubscribe("alice")
		last := leader.mustPublish(t, "alice", "bob") // bob's is the marker: it must be the next event seen
		marker := replica.await(t, "bob's event", from, isEventAt(last))
		for _, c := range replica.all()[from:marker] {
			if c.event != nil {
				t.Fatalf("an event of %q came after Unsubscribe", c.event.Owner)
			}
		}
	}
	eventually(t, "Redis knows", func() bool {
		channels, err := client.PubSubChannels(t.Context(), "reelay:*:o:*").Result()
		if err != nil {
			t.Fatal(err)
		}
		return len(channels) == 1
	})
	eventually(t, "the bus has forgotten", func() bool { return replica.metric(t, "reelay_bus_subscriptions") == 1 })
	replica.Unsubscribe("alice") // again, and one who never was
	replica.Unsubscribe("nobody")
}

func TestSubscribe_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	hole := newProxy(t, server.Addr())
	replica := start(t, hole.url())
	lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	hole.hold()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	within(t, 50*time.Millisecond+slack, "Subscribe with a deadline", func() {
		if err := replica.Subscribe(ctx, "alice"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Subscribe returned %v, want the context's error", err)
		}
	})
	if err := replica.Subscribe(ctx, "bob"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Subscribe with a context that had ended returned %v", err)
	}
	// Another call for the same owner waits on while one gives up, until it is taken back.
	waiting := make(chan error, 1)
	go func() { waiting <- replica.Subscribe(t.Context(), "alice") }()
	ctx, cancel = context.WithTimeout(t.Context(), patienceOrSo)
	defer cancel()
	if err := replica.Subscribe(ctx, "alice"); err == nil {
		t.Error("Subscribe returned nil through a black hole")
	}
	if len(waiting) > 0 {
		t.Errorf("Subscribe returned %v through a black hole", <-waiting)
	}
	within(t, slack, "Subscribe when it is taken back", func() {
		replica.Unsubscribe("alice")
		if err := <-waiting; err != nil {
			t.Errorf("Subscribe returned %v when it was taken back", err)
		}
	})
}

// Whoever subscribed while the bus was down, or before Run, is subscribed when it is up.
func TestSubscribe_WhileDown(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	server.Kill()
	early := owners(50)
	replica := start(t, server.URL())
	down := replica.await(t, "Down", 0, isDown)
	for _, owner := range early {
		within(t, patienceOrSo, "Subscribe while down", func() { replica.subscribe(t, owner) })
	}
	replica.Unsubscribe(early[0])
	leader := lead(t, server.URL())
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	up := replica.await(t, "Up", down, isUp)
	last := leader.mustPublish(t, early...)
	replica.await(t, "mark", up, isMarkTo(last))
	if n := count(replica.all()[up:], func(c call) bool { return c.event != nil }); n < 49 {
		t.Errorf("%d events arrived, want 49", n)
	}
	if n := count(replica.all()[up:], func(c call) bool { return c.event != nil && c.event.Owner == early[0] }); n > 0 {
		t.Error("an event of an owner came who was unsubscribed while the bus was down")
	}
}

// Up waits for the confirmation of every owner whose Subscribe has returned without one. The mark that comes before
// that confirmation does not make the bus up; the next one does.
func TestSubscribe_UpWaitsForConfirmations(t *testing.T) {
	t.Parallel()
	for name, beforeRun := range map[string]bool{"subscribed before Run": true, "subscribed while connected": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.New(t)
			link := newProxy(t, server.Addr())
			trapped := link.holdAt(":o:") // the first command that names an owner
			client, leader := admin(t, server.URL()), start(t, server.URL())
			eventually(t, "Publish works", func() bool {
				return leader.Publish(t.Context(), hub.Batch{Log: "l", Epoch: 1}) == nil
			})
			replica := start(t, link.url(), func(_ *redisbus.Config, r *recorder) {
				r.ready = func(r *replica) {
					if beforeRun {
						r.subscribe(t, "alice")
					}
				}
			})
			eventually(t, "a connection", func() bool { return replica.metric(t, "reelay_bus_connections_total") == 1 })
			if !beforeRun {
				within(t, patienceOrSo, "Subscribe while connected", func() { replica.subscribe(t, "alice") })
			}
			<-trapped
			eventually(t, "the control channel has two listeners", func() bool {
				n, err := client.PubSubNumSub(t.Context(), "reelay:{0}:control").Result()
				return err == nil && n["reelay:{0}:control"] == 2
			})
			publish := func(head hub.Position) {
				if err := leader.Publish(t.Context(), hub.Batch{Log: "l", Epoch: 1, From: head, Head: head}); err != nil {
					t.Fatal(err)
				}
			}
			publish(1)
			link.release()
			first := replica.await(t, "first mark", 0, isMarkTo(1))
			up := first
			eventually(t, "Up", func() bool {
				publish(2)
				calls := replica.all()
				up = slices.IndexFunc(calls, isUp)
				return up >= 0
			})
			if before := replica.all()[up-1]; !isMarkTo(2)(before) {
				t.Errorf("Up did not come with a later mark:\n%s", describe(replica.all()))
			}
		})
	}
}

// The numbers here are in the report of the test, for whoever sizes a replica.
func TestSubscribe_TenThousandOwners(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	everybody := owners(10_000)
	begin := time.Now()
	var wg sync.WaitGroup
	for _, owner := range everybody {
		wg.Go(func() { replica.subscribe(t, owner) })
	}
	wg.Wait()
	t.Logf("10,000 concurrent Subscribe: %s", time.Since(begin))
	from := len(replica.all())
	client := admin(t, server.URL())
	if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	down := replica.await(t, "Down", from, isDown)
	up := replica.await(t, "Up", down, isUp)
	channels, err := client.PubSubChannels(t.Context(), "reelay:*:o:*").Result()
	if err != nil || len(channels) != len(everybody) {
		t.Errorf("at Up Redis had %d subscriptions (%v), want 10,000", len(channels), err)
	}
	calls := replica.all()
	outage := calls[up].at.Sub(calls[down].at)
	t.Logf("10,000 subscribed again after a lost connection, pause and wait for a mark included: %s", outage)
	if outage > 5*time.Second {
		t.Errorf("the outage took %s", outage)
	}
	for _, owner := range []hub.Owner{everybody[0], everybody[500], everybody[len(everybody)-1]} {
		replica.await(t, "event", up, isEventAt(leader.mustPublish(t, owner)))
	}
}
