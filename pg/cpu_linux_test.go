package pg_test

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf returns how long a process has run, 0 if it is gone. The clock of another process (clock_getcpuclockid(3)) is
// exact; /proc knows no better than 10 ms.
func cpuOf(pid uint32) time.Duration {
	const allThreads = 2 // CPUCLOCK_SCHED, without CPUCLOCK_PERTHREAD
	var at unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|allThreads, &at); err != nil {
		return 0
	}
	return time.Duration(at.Nano())
}
