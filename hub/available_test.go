package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

func TestHub_TellsThatTheLogIsAway(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []bool
	check := func(w *world, want ...bool) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(told, want) {
			w.Fatalf("it was told that the log is available: %v, want %v", told, want)
		}
	}
	inWorld(t, func(w *world) {
		w.hub.OnAvailability(func(available bool) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, available)
		})
		c := w.live("alice")
		w.publish("alice")
		c.sees(1)

		w.log.fail(errAway)
		w.bus.up() // makes the hub ask
		pass(900 * time.Millisecond)
		check(w) // an outage this short is nobody's concern
		w.attaches(func(err error) bool { return err == nil })
		pass(3 * time.Second)
		check(w, false)
		w.attaches(func(err error) bool { return errors.Is(err, hub.ErrUnavailable) })
		if n := w.value("reelay_hub_log_available"); n != 0 {
			w.Fatalf("the log counts as available while it fails")
		}
		w.publish("alice")
		c.sees(2) // sessions stay, and the bus goes on

		w.log.fail(nil)
		pass(time.Second)
		check(w, false, true)
		w.attaches(func(err error) bool { return err == nil })
		w.live("alice")
	})
}

// A network that swallows everything gives no error. With the bus up and marks coming, nothing else gives the hub reason
// to ask either.
func TestHub_TellsThatTheLogDoesNotAnswer(t *testing.T) {
	t.Parallel()
	const most = 4250 * time.Millisecond // after its last answer: four seconds, counted in quarters
	for _, hole := range []bool{false, true} {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprintf("hole %v, bus down %v", hole, down), func(t *testing.T) {
				t.Parallel()
				var told []bool
				inWorld(t, func(w *world) {
					c := w.live("alice")
					w.publish("alice")
					c.sees(1)
					for range 60 { // with nothing to do it asks all the same, and says nothing
						w.bus.mark(w.log.number(1))
						pass(time.Second)
					}
					if n := w.log.asked("position"); n < 55 || n > 70 || len(told) > 0 {
						w.Fatalf("in a minute of peace the log was asked %d times, and sessions were told %v", n, told)
					}
					w.log.hang(true)
					if hole {
						w.append("alice") // lost by the bus
						w.publish("alice")
					}
					if down {
						w.bus.down(errAway)
					}
					for passed := time.Duration(0); len(told) == 0; passed += 250 * time.Millisecond {
						if passed > most {
							w.Fatalf("the log has not answered for %v, and nobody was told", passed)
						}
						if err := w.hub.Ready(context.Background()); err != nil {
							w.Fatalf("Ready says %v before sessions are told", err)
						}
						if !down {
							w.bus.mark(w.log.number(1))
						}
						pass(250 * time.Millisecond)
					}
					w.attaches(func(err error) bool { return err == nil }) // it may be a storm, and worth to wait
					if err := w.hub.Ready(context.Background()); !errors.Is(err, hub.ErrUnavailable) {
						w.Fatalf("sessions were told, and Ready says %v", err)
					}
					pass(10 * time.Second)
					w.attaches(func(err error) bool { return errors.Is(err, hub.ErrUnavailable) })
					pass(time.Minute)
					w.log.hang(false)
					pass(3 * time.Second) // a question that will never be answered is given up after two
					if !slices.Equal(told, []bool{false, true}) || w.hub.Ready(context.Background()) != nil {
						w.Fatalf("it was told that the log is available: %v; Ready says %v", told, w.hub.Ready(context.Background()))
					}
					pass(12 * time.Second) // reads of pages are given more time, and tried again after a pause
					if hole {
						c.sees(2, 3)
					}
					w.publish("alice")
					pass(time.Second)
					c.sees(w.log.history("alice").head)
				}, func(w *world) { w.tell = func(available bool) { told = append(told, available) } })
			})
		}
	}
}

// A log that answers sessions late, but does, is not gone. It is when the hub itself gets no answer for long.
func TestHub_BearsALogThatIsSlow(t *testing.T) {
	t.Parallel()
	var told []bool
	inWorld(t, func(w *world) {
		c := w.live("alice")
		position, changes := w.log.hold("position"), w.log.hold("changes")
		begun := time.Now()
		for len(told) == 0 {
			if _, err := c.Lookup(context.Background(), nil); err != nil {
				w.Fatalf("look up: %v", err)
			}
			if time.Since(begun) > 25*time.Second {
				w.Fatalf("the hub has had no answer for %v, and nobody was told", time.Since(begun))
			}
			pass(time.Second)
		}
		if lasted := time.Since(begun); lasted < 12*time.Second {
			w.Fatalf("it was told that the log is available: %v after %v, though sessions get answers", told, lasted)
		}
		position()
		changes()
		pass(8 * time.Second)
		if !slices.Equal(told, []bool{false, true}) {
			w.Fatalf("it was told that the log is available: %v, want false and then true", told)
		}
	}, func(w *world) { w.tell = func(available bool) { told = append(told, available) } })
}

// Until the log has answered once, nobody knows.
func TestHub_IsNotReadyBeforeTheLogHasAnswered(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		if err := w.hub.Ready(context.Background()); !errors.Is(err, hub.ErrUnavailable) {
			w.Fatalf("Ready says %v before the log has answered", err)
		}
		pass(5 * time.Second)
		w.log.fail(nil)
		pass(time.Second)
		if err := w.hub.Ready(context.Background()); err != nil {
			w.Fatalf("Ready says %v though the log answers", err)
		}
	}, func(w *world) { w.log.fail(errAway) })
}

// Who waited to be let in while others were told that events cannot be read would never hear of it.
func TestHub_LetsNobodyInUntold(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := w.bus.withhold()
		result := make(chan error, 1)
		go func() {
			_, err := w.hub.Attach(context.Background(), "bob", func() {}, hub.Options{})
			result <- err
		}()
		w.log.fail(errAway)
		pass(3 * time.Second)
		release()
		if err := <-result; !errors.Is(err, hub.ErrUnavailable) {
			w.Fatalf("attach: error %v, want %v", err, hub.ErrUnavailable)
		}
	})
}

// Who takes long to be told keeps nobody from finding out, and is told the last news in the end.
func TestHub_FindsOutWhileItTells(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	var told []bool
	inWorld(t, func(w *world) {
		held = make(chan struct{}) // one of the bubble
		w.log.fail(errAway)
		pass(5 * time.Second)
		w.log.fail(nil)
		pass(time.Second)
		if err := w.hub.Ready(context.Background()); err != nil {
			w.Fatalf("Ready says %v though the log answers", err)
		}
		close(held)
		pass(0)
		if !slices.Equal(told, []bool{false, true}) {
			w.Fatalf("it was told that the log is available: %v", told)
		}
	}, func(w *world) {
		w.tell = func(available bool) { <-held; told = append(told, available) }
	})
}

// attaches checks what Attach says.
func (w *world) attaches(want func(error) bool) {
	w.Helper()
	session, err := w.hub.Attach(context.Background(), "bob", func() {}, hub.Options{})
	if !want(err) {
		w.Fatalf("attach: error %v", err)
	}
	if err == nil {
		session.Close()
	}
}
