package api

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestOutbox_MissesNoWake has several tell of what there is, as fast as they can, while the writer comes and goes.
func TestOutbox_MissesNoWake(t *testing.T) {
	t.Parallel()
	const tellers, each = 4, 20_000
	var there, taken, turns atomic.Int64
	done := make(chan struct{})
	var tasks sync.WaitGroup
	o := &outbox{writers: newWriters(&tasks), turn: func(*load) (bool, error) {
		turns.Add(1)
		if taken.Add(there.Swap(0)) == tellers*each {
			close(done)
		}
		return false, nil
	}}
	o.open()
	var telling sync.WaitGroup
	for range tellers {
		telling.Go(func() {
			for range each {
				there.Add(1)
				o.wake()
			}
		})
	}
	telling.Wait()
	<-done
	o.close()
	tasks.Wait()
	if got := turns.Load(); got > tellers*each {
		t.Errorf("it took %d turns to write %d frames", got, tellers*each)
	}
}

// TestOutbox_OneWriter wakes an outbox before it is open, while it writes, and after its end.
func TestOutbox_OneWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		writing := make(chan error)
		var turns, atOnce atomic.Int32
		var tasks sync.WaitGroup
		o := &outbox{writers: newWriters(&tasks), turn: func(*load) (bool, error) {
			turns.Add(1)
			if atOnce.Add(1) > 1 {
				t.Error("two write at once")
			}
			defer atOnce.Add(-1)
			return false, <-writing
		}}
		expect := func(want int32, when string) {
			t.Helper()
			synctest.Wait()
			if got := turns.Load(); got != want {
				t.Fatalf("%s there were %d turns, want %d", when, got, want)
			}
		}
		o.wake()
		expect(0, "before it was open")
		o.open()
		expect(1, "when it was open")
		for range 10 {
			o.wake()
		}
		expect(1, "while it wrote")
		writing <- nil
		expect(2, "when that was written")
		writing <- nil
		expect(2, "when there was no news")
		o.wake()
		expect(3, "when there was news again")
		writing <- errors.New("the client has gone")
		o.wake()
		expect(3, "after an error")
		o.close()
		o.wake()
		expect(3, "after its end")
		tasks.Wait()
	})
}
