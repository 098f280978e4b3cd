package api

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// inTurn runs a test of writers, who end when there is nothing to do.
func inTurn(t *testing.T, most int, test func(*testing.T, *writers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var tasks sync.WaitGroup
		w := newWriters(&tasks)
		w.most = most
		test(t, w)
		synctest.Wait()
		if w.working != 0 {
			t.Errorf("%d writers are counted when all is written, want none", w.working)
		}
		tasks.Wait() // the bubble is dead where one of them stays
	})
}

// TestWriters_WaitForNobody has more clients stuck than there are writers: the others get their turns.
func TestWriters_WaitForNobody(t *testing.T) {
	t.Parallel()
	inTurn(t, 2, func(t *testing.T, w *writers) {
		reads := make(chan struct{})
		var stuck, written atomic.Int32
		for range 10 {
			(&outbox{writers: w, opened: true, turn: func(l *load) (bool, error) {
				stuck.Add(1)
				l.stall()
				l.stall() // a load may be written in several parts
				<-reads
				stuck.Add(-1)
				return false, nil
			}}).wake()
		}
		for range 10 {
			(&outbox{writers: w, opened: true, turn: func(*load) (bool, error) {
				written.Add(1)
				return false, nil
			}}).wake()
		}
		synctest.Wait()
		if stuck.Load() != 10 || written.Load() != 10 {
			t.Errorf("%d clients are stuck and %d were written to, want 10 and 10", stuck.Load(), written.Load())
		}
		close(reads)
	})
}

// TestWriters_NoMoreThanCPUs has many turns that wait for nobody, and counts those that are under way at once.
func TestWriters_NoMoreThanCPUs(t *testing.T) {
	t.Parallel()
	inTurn(t, 2, func(t *testing.T, w *writers) {
		end := make(chan struct{})
		var begun atomic.Int32
		for range 10 {
			(&outbox{writers: w, opened: true, turn: func(*load) (bool, error) {
				begun.Add(1)
				<-end
				return false, nil
			}}).wake()
		}
		synctest.Wait()
		if got := begun.Load(); got != 2 {
			t.Errorf("%d turns began at once, want 2", got)
		}
		close(end)
		synctest.Wait()
		if got := begun.Load(); got != 10 {
			t.Errorf("%d turns began in all, want 10", got)
		}
	})
}

// TestWriters_InTurn has one client who always has more to get: it waits for its next turn, as all do.
func TestWriters_InTurn(t *testing.T) {
	t.Parallel()
	inTurn(t, 1, func(t *testing.T, w *writers) {
		come := make(chan struct{}) // no turn ends before all wait for theirs
		var turns []string
		client := func(name string, more int) *outbox {
			return &outbox{writers: w, opened: true, turn: func(*load) (bool, error) {
				<-come
				turns = append(turns, name)
				more--
				return more >= 0, nil
			}}
		}
		client("much", 2).wake()
		client("a", 0).wake()
		client("b", 1).wake()
		close(come)
		synctest.Wait()
		if want := []string{"much", "a", "b", "much", "b", "much"}; !slices.Equal(turns, want) {
			t.Errorf("the turns were %v, want %v", turns, want)
		}
	})
}
