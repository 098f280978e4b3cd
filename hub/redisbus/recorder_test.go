package redisbus_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

// call is one call of a hub.Receiver. One of event, mark, up and down is set.
type call struct {
	at    time.Time
	log   string
	epoch hub.Epoch
	event *hub.Event
	mark  *hub.Mark
	up    bool
	down  error
}

// recorder is a hub.Receiver that remembers. It notices when two of its methods run at once.
type recorder struct {
	busy       atomic.Bool
	overlapped atomic.Bool
	block      func(*hub.Event) // called by Deliver, to play a hub that is slow; may be nil
	ready      func(*replica)   // called before Run; may be nil

	mu      sync.Mutex
	calls   []call
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) add(c call) {
	if r.busy.Swap(true) {
		r.overlapped.Store(true)
	}
	defer r.busy.Store(false)
	if c.event != nil && r.block != nil {
		r.block(c.event)
	}
	c.at = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Deliver(log string, epoch hub.Epoch, e *hub.Event) {
	r.add(call{log: log, epoch: epoch, event: e})
}
func (r *recorder) Advance(m hub.Mark) { r.add(call{mark: &m}) }
func (r *recorder) Up()                { r.add(call{up: true}) }
func (r *recorder) Down(reason error)  { r.add(call{down: reason}) }

// all returns the calls so far. They do not change any more, so that nothing needs to be copied.
func (r *recorder) all() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.calls)
}

// await waits until there is a call after the first `after` for which is is true, and returns its index.
func (r *recorder) await(t *testing.T, what string, after int, is func(call) bool) int {
	t.Helper()
	deadline := time.After(enough)
	for i := after; ; {
		r.mu.Lock()
		calls, changed := r.calls, r.changed
		r.mu.Unlock()
		for ; i < len(calls); i++ {
			if is(calls[i]) {
				return i
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s within %s; calls so far:\n%s", what, enough, describe(calls))
		}
	}
}

// describe shows the last calls, leaving out repeated marks.
func describe(calls []call) string {
	var b strings.Builder
	for _, c := range calls[max(0, len(calls)-40):] {
		switch {
		case c.event != nil:
			fmt.Fprintf(&b, "  event %d of %q, %d\n", c.event.Position, c.event.Owner, c.event.Sequence)
		case c.mark != nil:
			fmt.Fprintf(&b, "  mark %d to %d\n", c.mark.From, c.mark.Head)
		case c.up:
			b.WriteString("  up\n")
		default:
			fmt.Fprintf(&b, "  down: %v\n", c.down)
		}
	}
	return b.String()
}

func isUp(c call) bool   { return c.up }
func isDown(c call) bool { return c.down != nil }
func isEventAt(p hub.Position) func(call) bool {
	return func(c call) bool { return c.event != nil && c.event.Position == p }
}

func isMarkTo(p hub.Position) func(call) bool {
	return func(c call) bool { return c.mark != nil && c.mark.Head == p }
}

// vouchesFor is a mark that ends at p and vouches for something.
func vouchesFor(p hub.Position) func(call) bool {
	return func(c call) bool { return c.mark != nil && c.mark.Head == p && c.mark.From < p }
}

func count(calls []call, is func(call) bool) (n int) {
	for _, c := range calls {
		if is(c) {
			n++
		}
	}
	return n
}
