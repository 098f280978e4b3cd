package pg

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// asked is what became of callers.
type asked struct {
	queries, largest int           // how many queries it took, and the most callers in one
	longest, all     time.Duration // the longest that one of them waited, and how long it took until all were answered
}

// ask has callers come one after the other, every so often. A query takes a millisecond.
func ask(t *testing.T, callers int, every time.Duration) (result asked) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		b := newBatcher(func(ctx context.Context, numbers []int) ([]int, error) {
			mu.Lock()
			result.queries++
			result.largest = max(result.largest, len(numbers))
			mu.Unlock()
			return numbers, pause(ctx, time.Millisecond)
		})
		ctx, cancel := context.WithCancel(t.Context())
		var working, asking sync.WaitGroup
		for range lanes {
			working.Go(func() { b.work(ctx) })
		}
		first := time.Now()
		for n := range callers {
			asking.Go(func() {
				begun := time.Now()
				answer, err := b.ask(ctx, n)
				if answer != n || err != nil {
					t.Errorf("%d was answered %d, %v", n, answer, err)
				}
				mu.Lock()
				defer mu.Unlock()
				result.longest = max(result.longest, time.Since(begun))
			})
			_ = pause(ctx, every)
		}
		asking.Wait()
		result.all = time.Since(first)
		cancel()
		working.Wait()
	})
	return result
}

func TestBatcher_ALoneCallerWaitsForNothing(t *testing.T) {
	t.Parallel()
	got := ask(t, 20, 2*time.Millisecond)
	if got.queries != 20 || got.longest != time.Millisecond {
		t.Errorf("%d queries, the longest wait was %s", got.queries, got.longest)
	}
}

// Ten thousand in a second, of which four lanes could ask for four thousand one by one.
func TestBatcher_AStormMakesFewQueries(t *testing.T) {
	t.Parallel()
	got := ask(t, 10_000, 100*time.Microsecond)
	if most := int(time.Second/gatherFor) + 100; got.queries > most {
		t.Errorf("%d queries, more than %d", got.queries, most)
	}
	if most := gatherFor + 2*time.Millisecond; got.longest > most {
		t.Errorf("a caller waited for %s, longer than %s", got.longest, most)
	}
}

// A query that is full is asked at once: a hundred thousand in a second are four hundred queries.
func TestBatcher_AFullQueryWaitsForNoMore(t *testing.T) {
	t.Parallel()
	got := ask(t, 100_000, 10*time.Microsecond)
	if most := 100_000/batchMost + 300; got.queries > most {
		t.Errorf("%d queries, more than %d", got.queries, most)
	}
	if got.largest > batchMost {
		t.Errorf("a query has %d callers, more than %d", got.largest, batchMost)
	}
	if most := time.Second + 2*gatherFor; got.all > most {
		t.Errorf("all were answered after %s, want %s at the most", got.all, most)
	}
}
