package pg

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ask has callers come one after the other, every so often, and returns how many queries it took and the longest that
// one of them waited. A query takes a millisecond.
func ask(t *testing.T, callers int, every time.Duration) (queries int, longest time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		b := newBatcher(func(ctx context.Context, numbers []int) ([]int, error) {
			mu.Lock()
			queries++
			mu.Unlock()
			return numbers, pause(ctx, time.Millisecond)
		})
		ctx, cancel := context.WithCancel(t.Context())
		var working, asking sync.WaitGroup
		for range lanes {
			working.Go(func() { b.work(ctx) })
		}
		for n := range callers {
			asking.Go(func() {
				begun := time.Now()
				answer, err := b.ask(ctx, n)
				if answer != n || err != nil {
					t.Errorf("%d was answered %d, %v", n, answer, err)
				}
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, time.Since(begun))
			})
			_ = pause(ctx, every)
		}
		asking.Wait()
		cancel()
		working.Wait()
	})
	return queries, longest
}

func TestBatcher_ALoneCallerWaitsForNothing(t *testing.T) {
	t.Parallel()
	queries, longest := ask(t, 20, 2*time.Millisecond)
	if queries != 20 || longest != time.Millisecond {
		t.Errorf("%d queries, the longest wait was %s", queries, longest)
	}
}

// Ten thousand in a second, of which four lanes could ask for four thousand one by one.
func TestBatcher_AStormMakesFewQueries(t *testing.T) {
	t.Parallel()
	queries, longest := ask(t, 10_000, 100*time.Microsecond)
	if most := 2*int(time.Second/gatherFor) + 100; queries > most {
		t.Errorf("%d queries, more than %d", queries, most)
	}
	if most := 2*gatherFor + 2*time.Millisecond; longest > most {
		t.Errorf("a caller waited for %s, longer than %s", longest, most)
	}
}
