package pg

import (
	"testing"
	"time"
)

func TestNap_SleepsForAsLongAsItIsToldTo(t *testing.T) {
	t.Parallel()
	n := newNapper()
	for _, d := range []time.Duration{0, time.Nanosecond, 150 * time.Microsecond, 3 * time.Millisecond} {
		begun := time.Now()
		n.nap(d)
		if took := time.Since(begun); took < d {
			t.Errorf("a nap of %v took %v", d, took)
		}
	}
	n.close()
	const d = time.Millisecond
	begun := time.Now()
	n.nap(d)
	if took := time.Since(begun); took < d {
		t.Errorf("without a timer a nap of %v took %v", d, took)
	}
	n.close()
}
