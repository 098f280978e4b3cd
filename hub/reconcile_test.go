package hub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/hub"
)

// The bus loses the last event of a silent owner, and its mark arrives: the one loss that nothing shows.
func TestHub_ReconcilesWhatNothingShows(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.bus.mark(w.append("alice"))
		c.sees()
		pass(reconcileEvery)
		c.sees(1)
		if n := w.value("reelay_hub_repairs_total"); n != 1 {
			w.Fatalf("%v repairs were counted, want 1", n)
		}
		pass(reconcileEvery)
		w.attach("bob") // who has no place lacks nothing
		w.publish("bob")
		for range reconcileEvery/time.Second - 1 {
			pass(time.Second)
			w.bus.send(w.log.number(1)) // a heartbeat
		}
		pass(time.Second - time.Millisecond)
		late := w.append("alice") // is on its way when the hub compares
		pass(time.Millisecond)
		w.bus.send(late)
		c.sees(2)
		if n := w.value("reelay_hub_repairs_total"); n != 1 {
			w.Fatalf("%v repairs were counted while nothing was missing, want 1 as before", n)
		}
	})
}

func TestHub_RecoversWhenTheLogFailedForAWhile(t *testing.T) {
	t.Parallel()
	for _, busDown := range []bool{false, true} {
		t.Run(fmt.Sprintf("bus down: %t", busDown), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c, bob := w.live("alice"), w.live("bob")
				w.log.fail(errAway)
				if busDown {
					w.bus.down(errAway)
				}
				w.append("alice")
				w.bus.send(w.append("alice")) // shows a hole, and a gap in the marks
				w.append("bob")
				pass(time.Minute)
				if n := w.value("reelay_hub_log_errors_total"); n == 0 {
					w.Fatalf("no error of the log was counted")
				}
				bob.sees()
				w.log.fail(nil)
				pass(3 * time.Second) // the longest pause between two tries
				c.sees(1, 2)
				bob.sees(1)
				if busDown {
					w.bus.up()
				}
				w.publish("alice")
				c.sees(3)
			})
		})
	}
}

// After a failure the hub may be behind by more than is kept: then no question about what changed can be answered.
func TestHub_ComparesAllAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*world){
		"in silence":                 func(*world) {},
		"another doubt waits before": func(w *world) { w.bus.up() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c := w.live("alice")
				w.log.fail(errAway)
				w.bus.down(errAway)
				w.append("alice")
				synctest.Wait()            // the hub has asked in vain, and waits to try again
				w.log.trim(w.log.position) // the event is gone before the hub could ask
				w.log.fail(nil)
				meanwhile(w)
				pass(time.Second)
				c.isReset(hub.ReasonTooOld)
			})
		})
	}
}

// An owner comes while the hub compares all, and is not on its list: the position that comes with the answer must not
// stand for what that owner has.
func TestHub_OwnerWhoComesWhileAllAreComparedLacksNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.bus.down(errAway)
		w.log.fail(errAway)
		pass(pollEvery) // from now on it compares all
		w.log.fail(nil)
		release := w.log.hold("ask position")
		pass(time.Second)
		c := w.live("alice")
		w.append("alice")
		release()
		pass(time.Second)
		c.sees(1)
	})
}

// A mark claims what is not in the log: it hides gaps, but not for ever.
func TestHub_MarkThatIsAheadOfTheLogIsForgotten(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)
		w.bus.mark(hub.Batch{Log: "first", Epoch: 1, From: 1, Head: 1 << 40})
		for range reconcileEvery / time.Second {
			w.publish("bob")
			pass(time.Second)
		}
		w.append("alice")
		w.publish("bob") // shows a gap
		c.sees(2)
		if n := w.value("reelay_hub_position"); n != float64(w.log.position) {
			w.Fatalf("the hub is at position %v, want %d", n, w.log.position)
		}
	})
}

// More owners than one query compares, and the second query fails: the retry must know that, whatever else is waiting.
func TestHub_ComparesAllAfterAFailureInTheMidst(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var clients []*client
		for i := range 5100 {
			clients = append(clients, w.live(hub.Owner(fmt.Sprint("owner", i))))
		}
		w.bus.down(errAway)
		synctest.Wait()
		w.log.fail(errAway)
		pass(pollEvery) // from now on the hub retries
		for i := range clients {
			w.append(hub.Owner(fmt.Sprint("owner", i)))
		}
		asked := w.log.asked("heads")
		w.log.failFrom("heads", asked+2) // the first 5,000 owners are compared, the others are not
		w.log.fail(nil)
		pass(time.Second)
		w.bus.up() // doubts, too, while the hub waits for its retry
		w.log.failFrom("heads", 0)
		pass(time.Second)
		for _, c := range clients {
			c.sees(1)
		}
	})
}
