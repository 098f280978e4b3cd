package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/hub"
)

// subscribeLimit is how long a confirmation may take.
const subscribeLimit = 5 * time.Second

// attachLater attaches on a goroutine of its own. The channel has the error when it has returned.
func (w *world) attachLater(ctx context.Context, owner hub.Owner) <-chan error {
	result := make(chan error, 1)
	go func() {
		session, err := w.hub.Attach(ctx, owner, func() {}, hub.Options{})
		if err == nil {
			session.Close()
		}
		result <- err
	}()
	synctest.Wait()
	return result
}

func (w *world) hasSubscriptions(ever, now int) {
	w.Helper()
	synctest.Wait()
	if e, n := w.bus.asked(); e != ever || n != now {
		w.Fatalf("there were %d subscriptions and are %d, want %d and %d", e, n, ever, now)
	}
}

func TestHub_FeedLingersForAReload(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)
		for range 3 {
			c.Close()
			pass(lingerFor - time.Millisecond)
			w.publish("alice") // the feed goes on without sessions
			var err error
			if c, err = w.resume("alice", "first", c.cursor.Sequence); err != nil {
				w.Fatalf("resume: %v", err)
			}
			c.sees(c.w.log.owners["alice"].head)
		}
		w.hasSubscriptions(1, 1)
		pass(2 * lingerFor) // what was to end it is called off
		w.hasSubscriptions(1, 1)
		other := w.live("alice")
		c.Close()
		pass(2 * lingerFor)
		w.publish("alice")
		other.sees(5)
		other.Close()
		pass(lingerFor)
		w.hasSubscriptions(1, 0)
		if n := w.value("reelay_feeds"); n != 0 {
			w.Fatalf("%v feeds are counted after the last has ended, want 0", n)
		}
		again := w.live("alice")
		w.hasSubscriptions(2, 1)
		w.publish("alice")
		again.sees(6)
	})
}

func TestHub_SessionsOfOneOwnerShareASubscription(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := w.bus.withhold()
		var results []<-chan error
		for range 10 {
			results = append(results, w.attachLater(context.Background(), "alice"))
		}
		w.hasSubscriptions(1, 1)
		for _, result := range results {
			if len(result) > 0 {
				w.Fatalf("Attach returned before the subscription was confirmed")
			}
		}
		release()
		for _, result := range results {
			if err := <-result; err != nil {
				w.Fatalf("attach: %v", err)
			}
		}
		w.hasSubscriptions(1, 1)
	})
}

func TestHub_AttachGivesUpWithoutAConfirmation(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := w.bus.withhold()
		begin := time.Now()
		one, two := w.attachLater(context.Background(), "alice"), w.attachLater(context.Background(), "alice")
		for _, result := range []<-chan error{one, two} {
			if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
				w.Fatalf("attach: error %v, want a deadline exceeded", err)
			}
		}
		if took := time.Since(begin); took != subscribeLimit {
			w.Fatalf("it took %s, want %s", took, subscribeLimit)
		}
		w.hasSubscriptions(1, 0) // it does not linger: the next one tries anew
		release()
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)
		w.hasSubscriptions(2, 1)
	})
}

func TestHub_AttachEndsWithItsContext(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := w.bus.withhold()
		ctx, cancel := context.WithCancel(context.Background())
		patient := w.attachLater(context.Background(), "alice")
		hasty := w.attachLater(ctx, "alice")
		cancel()
		if err := <-hasty; !errors.Is(err, context.Canceled) {
			w.Fatalf("attach: error %v, want a cancelled context", err)
		}
		w.hasSubscriptions(1, 1)
		release()
		if err := <-patient; err != nil {
			w.Fatalf("attach of who has waited: %v", err)
		}
		w.hasSubscriptions(1, 1)
	})
}

// Whoever leaves before the goroutine that subscribes has run must not leave a subscription behind.
func TestHub_AttachThatEndsAtOnceLeavesNoSubscription(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		for range 200 {
			session, err := w.hub.Attach(ended, "alice", func() {}, hub.Options{})
			if err == nil {
				session.Close()
			}
		}
		pass(lingerFor)
		if _, now := w.bus.asked(); now != 0 {
			w.Fatalf("there are %d subscriptions and no session, want 0", now)
		}
	})
}

func TestHub_AttachBeforeAndAfterRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(newFakeBus(), newFakeLog(), slog.New(slog.DiscardHandler), hub.NewMetrics(nil))
		if _, err := h.Attach(context.Background(), "alice", func() {}, hub.Options{}); !errors.Is(err, hub.ErrClosed) {
			t.Fatalf("attach before Run: error %v, want ErrClosed", err)
		}
		w := newWorld(t)
		w.bus.withhold()
		waiting := w.attachLater(context.Background(), "alice")
		w.stop()
		if err := <-waiting; !errors.Is(err, hub.ErrClosed) {
			t.Fatalf("attach while Run ends: error %v, want ErrClosed", err)
		}
		if _, err := w.hub.Attach(context.Background(), "alice", func() {}, hub.Options{}); !errors.Is(err, hub.ErrClosed) {
			t.Fatalf("attach after Run: error %v, want ErrClosed", err)
		}
	})
}

// Whatever is under way when Run's context ends has ended when Run returns: the bubble would find a goroutine that has
// not, and so would a timer that fires later.
func TestHub_RunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	t.Run("while it asks the log", func(t *testing.T) {
		t.Parallel()
		leavesNothing(t, (*fakeBus).up)
	})
	t.Run("while it has nothing to do itself", func(t *testing.T) {
		t.Parallel()
		leavesNothing(t, func(*fakeBus) {})
	})
}

func leavesNothing(t *testing.T, before func(*fakeBus)) {
	t.Helper()
	inWorld(t, func(w *world) {
		slow, left := w.live("alice"), w.live("bob")
		w.live("carol")
		left.Close() // its feed lingers
		for range 1000 {
			w.publish("alice")
		}
		releases := []func(){w.log.hold("read"), w.log.hold("position"), w.log.hold("changes"), w.bus.withhold()}
		slow.sees()                                                                                          // a session reads
		w.bus.events(hub.Batch{Log: "first", Epoch: 1, Events: []*hub.Event{{Owner: "carol", Sequence: 9}}}) // a feed reads
		attaching := w.attachLater(context.Background(), "dave")                                             // a subscription waits
		before(w.bus)
		synctest.Wait()
		begin := time.Now()
		w.end()
		if err := <-w.ended; err != nil {
			w.Fatalf("Run returned %v, want nil", err)
		}
		w.ended <- nil
		if took := time.Since(begin); took != time.Second {
			w.Fatalf("Run took %s to end, want no longer than the queries under way", took)
		}
		if w.log.asking > 0 {
			w.Fatalf("Run has returned, and %d queries go on", w.log.asking)
		}
		<-attaching
		slow.Close()
		_, subscribed := w.bus.asked()
		pass(time.Minute)
		if _, now := w.bus.asked(); now != subscribed {
			w.Fatalf("long after Run subscriptions went from %d to %d", subscribed, now)
		}
		if event, _, err := slow.Next(); event != nil || !errors.Is(err, hub.ErrClosed) {
			w.Fatalf("Next after Close says %v, %v, want ErrClosed", event, err)
		}
		for _, release := range releases {
			release()
		}
	}, func(w *world) {
		w.log.onAnswer = func(ctx context.Context) error {
			if ctx.Err() != nil {
				<-time.After(time.Second) // a query takes its time to end
			}
			return ctx.Err()
		}
	})
}

// Sessions come and go while events flow and the hub ends: for the race detector.
func TestHub_SessionsComeAndGo(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var everybody sync.WaitGroup
		for _, owner := range []hub.Owner{"alice", "bob"} {
			for range 4 {
				everybody.Go(func() {
					var cursor hub.Cursor
					for {
						woken := make(chan struct{}, 1)
						session, err := w.hub.Attach(context.Background(), owner, func() {
							select {
							case woken <- struct{}{}:
							default:
							}
						}, hub.Options{})
						if err != nil {
							return
						}
						if cursor.Log == "" {
							cursor, err = session.Live(context.Background())
						} else {
							err = session.Resume(context.Background(), cursor)
						}
						for err == nil {
							event, next, problem := session.Next()
							if err = problem; event == nil {
								break
							}
							if event.Owner != owner || event.Sequence != cursor.Sequence+1 {
								w.Errorf("%s got event %d of %s after %s", owner, event.Sequence, event.Owner, cursor)
							}
							cursor = next
						}
						session.Close()
					}
				})
			}
		}
		everybody.Go(func() {
			for n := range 500 {
				w.bus.send(w.append([]hub.Owner{"alice", "bob"}[n%2]))
			}
			w.end()
		})
		everybody.Wait()
	})
}
