package pg

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// napper sleeps for less than a timer of the runtime can: one that waits for the network, too, is late by up to a
// millisecond, since that is what epoll counts in. A timer of the kernel's that is a file is waited for as a connection
// is, and holds no thread. A thread that sleeps in the kernel would be late twice as much or more (BenchmarkNap), by the
// slack that the kernel allows itself for threads (PR_SET_TIMERSLACK in prctl(2)).
type napper struct {
	timer int
	file  *os.File // the same; nil where there is none
}

func newNapper() *napper {
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil { // no files left, say
		return &napper{}
	}
	return &napper{timer: timer, file: os.NewFile(uintptr(timer), "timer of naps")}
}

// nap sleeps for some milliseconds at the most. A timer that is set to 0 would not go off.
func (n *napper) nap(d time.Duration) {
	if n.file != nil && unix.TimerfdSettime(n.timer, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}, nil) == nil {
		var expirations [8]byte
		if _, err := n.file.Read(expirations[:]); err == nil {
			return
		}
	}
	<-time.After(d)
}

func (n *napper) close() {
	if n.file != nil {
		_ = n.file.Close()
		n.file = nil
	}
}
