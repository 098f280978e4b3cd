//go:build linux

package pg

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkNap is one nap, of the shortest and of the longest that an awake leader takes: what it takes of the CPU, by
// this whole process, and how late it ends. A thread that sleeps in the kernel is what a napper does without.
func BenchmarkNap(b *testing.B) {
	n := newNapper()
	defer n.close()
	for _, by := range []struct {
		name string
		nap  func(time.Duration)
	}{
		{"file", n.nap},
		{"thread", func(d time.Duration) {
			t := unix.NsecToTimespec(int64(d))
			_ = unix.Nanosleep(&t, nil)
		}},
		{"runtime", func(d time.Duration) { <-time.After(d) }},
	} {
		for _, d := range []time.Duration{pollLeast, pollMost} {
			b.Run("by="+by.name+"/for="+d.String(), func(b *testing.B) {
				begun, used := time.Now(), processCPU(b)
				for b.Loop() {
					by.nap(d)
				}
				took, used := time.Since(begun), processCPU(b)-used
				naps := float64(b.N)
				b.ReportMetric(float64(used.Nanoseconds())/1000/naps, "cpu-µs/op")
				b.ReportMetric((float64(took.Nanoseconds())/naps-float64(d))/1000, "late-µs/op")
			})
		}
	}
}

func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Nano())
}
