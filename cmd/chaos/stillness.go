package main

import (
	"context"
	"sync"
	"time"
)

const (
	stillEvery = 20 * time.Millisecond
	// stillMost is for how long this machine may let us stand still before it is worth a note.
	stillMost = 500 * time.Millisecond
)

// stillness watches whether this machine lets its processes run: it asks to be woken every few milliseconds, and sees
// how late it is. That is for information: no verdict depends on it.
type stillness struct {
	mu    sync.Mutex
	worst time.Duration // guarded by mu
}

// run watches until ctx ends.
func (s *stillness) run(ctx context.Context) {
	for last := time.Now(); ctx.Err() == nil; {
		pause(ctx, stillEvery)
		now := time.Now()
		s.mu.Lock()
		s.worst = max(s.worst, now.Sub(last)-stillEvery)
		s.mu.Unlock()
		last = now
	}
}

func (s *stillness) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst = 0
}

func (s *stillness) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worst
}
