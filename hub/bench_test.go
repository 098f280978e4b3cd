package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/reelay/reelay/hub"
)

// BenchmarkDeliver is one event to an owner, from the bus into the hands of the owner's sessions, while 10,000 owners
// are on this replica. The event itself is not counted: it was made by whoever decoded the message.
func BenchmarkDeliver(b *testing.B) {
	for _, sessions := range []int{1, 10} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			bus := newFakeBus()
			h := hub.New(bus, newFakeLog(), slog.New(slog.DiscardHandler), hub.NewMetrics(nil))
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- h.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			handed := 0
			for n := range 10_000 + sessions - 1 {
				owner := hub.Owner(fmt.Sprint("owner", max(0, n-sessions+1)))
				var session *hub.Session
				session, err := attachWhenRunning(ctx, h, owner, func() {
					for event, _, _ := session.Next(); event != nil; event, _, _ = session.Next() {
						handed++
					}
				})
				if err != nil {
					b.Fatalf("attach: %v", err)
				}
				if _, err := session.Live(ctx); err != nil {
					b.Fatalf("live: %v", err)
				}
			}

			const chunk = 1024
			var events []hub.Event
			var next hub.Sequence
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				if n%chunk == 0 {
					b.StopTimer()
					events = make([]hub.Event, chunk)
					for i := range events {
						next++
						events[i].Owner, events[i].Sequence, events[i].Position = "owner0", next, hub.Position(next)
					}
					b.StartTimer()
				}
				h.Deliver("first", 1, &events[n%chunk])
			}
			b.StopTimer()
			if handed != b.N*sessions {
				b.Fatalf("%d events were handed out, want %d", handed, b.N*sessions)
			}
		})
	}
}

// attachWhenRunning attaches, and tries again while Run has not begun.
func attachWhenRunning(ctx context.Context, h *hub.Hub, owner hub.Owner, wake func()) (*hub.Session, error) {
	for {
		session, err := h.Attach(ctx, owner, wake, hub.Options{})
		if !errors.Is(err, hub.ErrClosed) {
			return session, err
		}
		runtime.Gosched()
	}
}
