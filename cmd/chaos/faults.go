package main

import (
	"context"
	"fmt"
	"time"
)

// killLeader kills the replica that leads, waits until another one does and events flow, and starts the killed one again.
func (s *stack) killLeader(ctx context.Context) error {
	var leader *replica
	if err := until(ctx, 20*time.Second, "there is a leader", func() bool { leader = s.leader(); return leader != nil }); err != nil {
		return err
	}
	leader.process.Kill()
	if err := s.flows(ctx); err != nil {
		return fmt.Errorf("after replica %d, the leader, was killed: %w", leader.number, err)
	}
	if err := leader.start(); err != nil {
		return err
	}
	return until(ctx, 20*time.Second, fmt.Sprintf("replica %d is back", leader.number), leader.ready)
}

// flows waits until an event that is committed from now on has reached the clients of one user, of which there is one
// on each replica.
func (s *stack) flows(ctx context.Context) error {
	s.probes++
	marker := fmt.Sprintf("probe-%d", s.probes)
	if err := until(ctx, 20*time.Second, "Postgres takes a write", func() bool { return s.mark(ctx, s.watchers[0].user, marker) == nil }); err != nil {
		return err
	}
	return until(ctx, 20*time.Second, "an event flows", func() bool {
		for _, w := range s.watchers {
			if w.user == s.watchers[0].user && !w.seen(marker) {
				return false
			}
		}
		return true
	})
}
