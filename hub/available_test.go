package hub_test

import (
	"context"
	"errors"
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
