//go:build !(linux && amd64)

package main

import (
	"context"
	"fmt"
	"time"
)

// clockOff is by how much a clock is set wrong, forward or backward.
const clockOff = 10 * time.Minute

// setClock makes one running process read a wall clock that is off. It can do so on Linux and amd64 alone.
func setClock(context.Context, int, time.Duration) (restore func() error, err error) {
	return nil, fmt.Errorf("%w: the clock of one process can be set wrong on Linux and amd64 alone", errSkipped)
}
