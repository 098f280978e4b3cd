//go:build !linux

package pg

import "time"

// nap sleeps for some milliseconds at the most.
func nap(d time.Duration) { time.Sleep(d) }
