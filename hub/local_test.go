package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/reelay/reelay/hub"
)

// heard is a receiver that writes down what it is called with.
type heard struct {
	mu    sync.Mutex
	calls []string
}

func (h *heard) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
}

func (h *heard) Deliver(log string, epoch hub.Epoch, e *hub.Event) {
	h.note("%s@%d %s.%d", log, epoch, e.Owner, e.Sequence)
}
func (h *heard) Advance(m hub.Mark) { h.note("%s@%d %d to %d", m.Log, m.Epoch, m.From, m.Head) }
func (h *heard) Up()                { h.note("up") }
func (h *heard) Down(reason error)  { h.note("down: %v", reason) }

// says checks what the receiver was called with since the last time.
func (h *heard) says(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.calls, want) {
		t.Fatalf("the receiver heard %q, want %q", h.calls, want)
	}
	h.calls = nil
}

func TestLocal_CarriesToThoseWhoAreSubscribed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local, log, receiver := hub.NewLocal(), newFakeLog(), new(heard)
		publish := func() {
			log.commit("alice", "v", nil)
			log.commit("bob", "v", nil)
			if err := local.Publish(context.Background(), log.number(7)); err != nil {
				t.Fatalf("publish: %v", err)
			}
		}
		subscribe := func(owner hub.Owner) {
			if err := local.Subscribe(context.Background(), owner); err != nil {
				t.Fatalf("subscribe: %v", err)
			}
		}
		subscribe("alice")
		publish()
		receiver.says(t) // before Run

		ctx, end := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- local.Run(ctx, receiver) }()
		synctest.Wait()
		receiver.says(t, "up")
		publish()
		receiver.says(t, "first@7 alice.2", "first@7 2 to 4")
		subscribe("bob")
		publish()
		receiver.says(t, "first@7 alice.3", "first@7 bob.3", "first@7 4 to 6")
		local.Unsubscribe("alice")
		publish()
		receiver.says(t, "first@7 bob.4", "first@7 6 to 8")
		end()
		if err := <-ended; err != nil {
			t.Fatalf("Run returned %v, want nil", err)
		}
		publish()
		receiver.says(t) // after Run
	})
}

// A hub on a Local bus, a leader that publishes, and sessions that come and go meanwhile.
func TestLocal_IsAllThatASingleReplicaNeeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events = 300
		local, log := hub.NewLocal(), newFakeLog()
		h := hub.New(local, log, slog.New(slog.DiscardHandler), hub.NewMetrics(nil))
		ctx, end := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		synctest.Wait()

		var everybody sync.WaitGroup
		for range 4 {
			everybody.Go(func() { follow(t, h, events) })
		}
		for range events {
			log.commit("alice", "v", []byte(`{}`))
			log.commit("bob", "v", []byte(`{}`))
			if err := local.Publish(ctx, log.number(1)); err != nil {
				t.Errorf("publish: %v", err)
			}
		}
		everybody.Wait()
		end()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

// follow takes alice's events from the first to the last, and comes back with its cursor after every tenth.
func follow(t *testing.T, h *hub.Hub, last hub.Sequence) {
	t.Helper()
	woken := make(chan struct{}, 1)
	wake := func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	for cursor := (hub.Cursor{Log: "first"}); cursor.Sequence < last; {
		session, err := h.Attach(context.Background(), "alice", wake, hub.Options{})
		if err != nil {
			t.Errorf("attach: %v", err)
			return
		}
		err = session.Resume(context.Background(), cursor)
		for n := 0; err == nil && n < 10 && cursor.Sequence < last; {
			event, next, problem := session.Next()
			if err = problem; err != nil {
				break
			}
			if event == nil {
				<-woken
				continue
			}
			if next.Sequence != cursor.Sequence+1 || event.Owner != "alice" {
				t.Errorf("after %s came event %s of %s", cursor, next, event.Owner)
				err = errors.New("out of order")
			}
			cursor = next
			n++
		}
		session.Close()
		if err != nil {
			t.Errorf("at %s: %v", cursor, err)
			return
		}
	}
}
