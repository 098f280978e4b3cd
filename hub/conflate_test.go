package hub_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/reelay/reelay/hub"
)

// conflated attaches a client that wants the last event of each subject alone, where it is behind.
func (w *world) conflated(owner hub.Owner, after hub.Sequence) *client {
	w.Helper()
	c := w.attachWith(owner, hub.Options{Conflate: true})
	if err := c.Resume(context.Background(), hub.Cursor{Log: "first", Sequence: after}); err != nil {
		w.Fatalf("resume: %v", err)
	}
	c.awake.Store(true)
	return c
}

func (w *world) emit(owner hub.Owner, subject, kind string) {
	w.log.emit(owner, subject, kind)
	w.bus.send(w.log.number(1))
}

// Ten videos with 100 events each: the last ten events say it all.
func TestSession_ConflatesWhatItIsBehindBy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		kept bool // by a feed; else the log is read
		each int
	}{
		{"kept by the feed", true, 12},
		{"read from the log", false, 12},
		{"more than a page", false, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				var whole *client
				if test.kept {
					whole = w.live("alice")
				}
				for range test.each {
					for n := range 10 {
						w.emit("alice", fmt.Sprint("v", n), "video.updated")
					}
				}
				all := hub.Sequence(10 * test.each)
				w.conflated("alice", 0).seesUpTo(all-9, all)
				w.conflated("alice", all-3).seesUpTo(all-2, all)
				w.conflated("alice", all).sees()
				if test.kept {
					whole.seesUpTo(1, all) // who did not ask for it gets each
				}
			})
		})
	}
}

// More videos than a page holds, each with two events.
func TestSession_ConflatesOverPages(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		const many = 300
		for range 2 {
			for n := range many {
				w.emit("alice", fmt.Sprint("v", n), "video.updated")
			}
		}
		c := w.conflated("alice", 0)
		c.seesUpTo(many+1, 2*many)
		w.publish("alice")
		c.sees(2*many + 1)
	})
}

// What became of a video is not merged away by a tick of its progress, nor the other way round.
func TestSession_ConflatesRowAndApplicationApart(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprintf("kept: %t", kept), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if kept {
					w.live("alice")
				}
				for _, kind := range []string{
					"video.created", "progress", "video.updated", // 3: the last of the row
					"progress", "comment", "progress", // 5 and 6
				} {
					w.emit("alice", "v", kind)
				}
				w.emit("alice", "w", "video.created")
				w.emit("alice", "w", "video.deleted") // 8
				w.conflated("alice", 0).sees(3, 5, 6, 8)
			})
		})
	}
}

func TestSession_ConflatesNothingWhileItIsLive(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.conflated("alice", 0)
		for n := range hub.Sequence(5) {
			w.publish("alice")
			c.sees(n + 1)
		}
	})
}

func TestSession_ConflatingOneIsResetWhereEventsAreGone(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		slow, other := w.conflated("alice", 0), w.live("alice")
		for range 1000 {
			w.publish("alice")
		}
		w.log.trim(w.log.position / 2)
		slow.isReset(hub.ReasonTooOld)
		slow.snapshot()
		w.publish("alice")
		slow.sees(1001)
		other.isReset(hub.ReasonTooOld)
	})
}
