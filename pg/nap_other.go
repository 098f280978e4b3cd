//go:build !linux

package pg

import "time"

// napper sleeps for some milliseconds at the most.
type napper struct{}

func newNapper() *napper { return &napper{} }

func (*napper) nap(d time.Duration) { <-time.After(d) }

func (*napper) close() {}
