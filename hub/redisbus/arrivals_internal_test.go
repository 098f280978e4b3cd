package redisbus

import (
	"testing"
	"testing/synctest"

	"github.com/reelay/reelay/hub"
)

// TestArrivals_Bounds has nobody deliver what is read: the reader goes so far and no further, until all is taken.
func TestArrivals_Bounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, want int }{
		"many":       {100, arrivalsAhead},
		"large":      {maxMessage / 4, 4},
		"as it goes": {maxMessage, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, gone := newArrivals(), make(chan struct{})
				put := 0
				reader := make(chan struct{})
				go func() {
					defer close(reader)
					for q.put(arrival{event: &hub.Event{Sequence: hub.Sequence(put)}}, c.size, gone) {
						put++
					}
				}()
				var all []arrival
				next := hub.Sequence(0)
				for range 3 {
					synctest.Wait()
					<-q.some
					all, _ = q.take(all)
					if len(all) != c.want {
						t.Errorf("%d messages waited, want %d", len(all), c.want)
					}
					for _, a := range all {
						if a.event.Sequence != next {
							t.Fatalf("message %d came where %d was due", a.event.Sequence, next)
						}
						next++
					}
				}
				synctest.Wait()
				close(gone)
				<-reader
				if put != 4*c.want {
					t.Errorf("%d messages were put, want %d", put, 4*c.want)
				}
			})
		})
	}
}

// TestArrivals_End has the last messages and the end come together: none is left out.
func TestArrivals_End(t *testing.T) {
	t.Parallel()
	q := newArrivals()
	q.put(arrival{confirmed: "a"}, 0, nil)
	used, ended := q.take(nil)
	if len(used) != 1 || ended {
		t.Errorf("took %d, and it had ended: %v", len(used), ended)
	}
	q.put(arrival{confirmed: "b"}, 0, nil)
	q.end()
	<-q.some
	if all, ended := q.take(used); len(all) != 1 || all[0].confirmed != "b" || !ended {
		t.Errorf("took %v at the end, and it had ended: %v", all, ended)
	}
	if used[0] != (arrival{}) {
		t.Error("what was delivered is kept alive")
	}
}
