package main

import (
	"context"
	"fmt"
	"time"
)

// awayFor and awayEvents are how long clients are away, and what they miss.
const (
	awayFor    = 5 * time.Second
	awayEvents = 2000
)

// back lets a thousand clients be away for a while, in which two events are committed for each.
func back(ctx context.Context, o options, f *stormed) error {
	s, err := newScene(ctx, o, 2, users, perUser, 1)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	f.clients, f.events = len(s.crowd.sockets), awayEvents
	s.crowd.leave()
	writers := load{
		url: s.url(), ledger: s.ledger, writers: 4, perSecond: awayEvents / awayFor.Seconds(),
	}
	turn := make(chan int, awayEvents)
	for n := range awayEvents {
		turn <- n%users*perUser + n/users
	}
	writers.pick = func(int, int) []int { return []int{<-turn} }
	defer writers.close(ctx)
	commits, _, err := writers.run(ctx, awayFor)
	if err != nil {
		return err
	}
	if commits != awayEvents {
		return fmt.Errorf("%d events were committed in %v instead of %d", commits, awayFor, awayEvents)
	}
	return s.comeBack(ctx, f)
}

// comeBack has a crowd that left connect at once, each client with its cursor.
func (s *scene) comeBack(ctx context.Context, f *stormed) error {
	s.crowd.dialers = manyDialers
	err := s.measure(ctx, f, func(begun time.Time) error {
		err := s.crowd.join(ctx)
		f.ready = append(f.ready, milliseconds(time.Since(begun)))
		return err
	})
	if err != nil {
		return err
	}
	// They are live: what is committed now arrives.
	if err := s.updateAll(ctx); err != nil {
		return err
	}
	if err := s.crowd.settle(ctx); err != nil {
		return err
	}
	return f.audit(s.crowd)
}
