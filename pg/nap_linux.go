package pg

import (
	"syscall"
	"time"
)

// nap sleeps for less than a timer of the runtime can: one that waits for the network, too, is late by up to a
// millisecond, since that is what epoll counts in. It blocks a thread, and so it is for some milliseconds at the most.
func nap(d time.Duration) {
	duration := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&duration, nil) // a signal ends it early, and then the leader looks early
}
