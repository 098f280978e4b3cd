package hub_test

import (
	"testing"

	"github.com/reelay/reelay/hub"
)

// progresses checks what the session says of how far it is.
func (c *client) progresses(to hub.Sequence, behind bool) {
	c.w.Helper()
	cursor, more := c.Progress()
	if want := (hub.Cursor{Log: c.w.log.name, Sequence: to}); cursor != want || more != behind {
		c.w.Fatalf("got cursor %s, behind %v; want %s, %v", cursor, more, want, behind)
	}
}

func TestSession_ProgressThroughTheLog(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for range 300 {
			w.append("alice")
		}
		c, err := w.resume("alice", "first", 0)
		if err != nil {
			w.Fatalf("resume: %v", err)
		}
		c.progresses(0, true)
		for n := hub.Sequence(1); n <= 128; n++ {
			if event, _, err := c.Next(); err != nil || event == nil || event.Sequence != n {
				w.Fatalf("got %v and %v, want event %d", event, err, n)
			}
		}
		c.progresses(128, true)
		if event, _, _ := c.Next(); event != nil {
			w.Fatalf("got event %d before its page was read", event.Sequence)
		}
		c.progresses(128, true) // it is being read
		c.seesUpTo(129, 300)
		c.progresses(300, false)
		w.publish("alice")
		c.progresses(300, true)
		c.sees(301)
		c.progresses(301, false)
	})
}

func TestSession_ProgressPastWhatAFilterLeavesOut(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		c.Filter(map[string]struct{}{"nothing": {}})
		w.publish("alice")
		c.progresses(0, true)
		c.sees()
		c.progresses(1, false)
	})
}

func TestSession_ProgressWithoutAPlace(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.attach("alice")
		if _, behind := c.Progress(); !behind {
			w.Fatalf("a session without a place is through with all")
		}
	})
}

// What a snapshot contains and the log does not yet have is still to come.
func TestSession_ProgressPastASnapshot(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.commit("alice", "a", []byte(`{}`))
		c := w.attach("alice")
		c.snapshot()
		c.progresses(0, true)
		w.bus.send(w.log.number(1))
		c.sees()
		c.progresses(1, false)
	})
}

// What the feed has heard of and not yet read is still to come.
func TestSession_ProgressBeforeAHole(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		release := w.log.hold("read")
		w.append("alice") // the bus loses it
		w.publish("alice")
		c.sees()
		c.progresses(0, true)
		release()
		c.sees(1, 2)
		c.progresses(2, false)
	})
}
