package hub_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/reelay/reelay/hub"
)

func TestEvent_IsEncodedOnce(t *testing.T) {
	t.Parallel()
	event := &hub.Event{Subject: "vid_9"}
	var encoded atomic.Int32
	frames := make([][]byte, 8)
	var sessions sync.WaitGroup
	for i := range frames {
		sessions.Go(func() {
			frames[i] = event.Frame(hub.Cursor{Log: "first", Sequence: 1}, func(e *hub.Event, c hub.Cursor) []byte {
				encoded.Add(1)
				return []byte(c.String() + " " + e.Subject)
			})
		})
	}
	sessions.Wait()
	for _, frame := range frames {
		if string(frame) != "first.1 vid_9" || &frame[0] != &frames[0][0] {
			t.Errorf("got frame %q, want the one of all, first.1 vid_9", frame)
		}
	}
	if n := encoded.Load(); n != 1 {
		t.Errorf("the event was encoded %d times, want once", n)
	}
}
