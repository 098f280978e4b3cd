package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// scene is servers with a crowd.
type scene struct {
	*stack
	ledger *ledger
	crowd  *crowd
}

// newScene starts servers and connects a crowd to all gateways. end stops both.
func newScene(ctx context.Context, o options, gateways, n, each, sockets int) (s *scene, err error) {
	s = &scene{ledger: newLedger(n, each)}
	if s.stack, err = startFor(ctx, o, n, each); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.end(ctx)
		}
	}()
	if err := s.replicas(ctx, o, gateways); err != nil {
		return s, err
	}
	if err := s.watch(ctx); err != nil {
		return s, err
	}
	if s.crowd, err = newCrowd(s.ledger, addresses(s.gateways), numbered(n), sockets); err != nil {
		return s, err
	}
	return s, s.crowd.join(ctx)
}

func (s *scene) end(ctx context.Context) {
	if s.crowd != nil {
		s.crowd.leave()
	}
	_ = s.stop(ctx) // what was measured stands; the folder is swept by the next start
}

// update changes one video of each user, in one statement.
func (s *scene) update(ctx context.Context, condition string, videos func(user int) []int) error {
	number := s.ledger.next()
	if _, err := s.db.ExecContext(ctx, "UPDATE videos SET progress = $1 WHERE "+condition, number); err != nil { //nolint:gosec // G202: ours
		return fmt.Errorf("update many: %w", err)
	}
	for user := range s.ledger.entries {
		for _, video := range videos(user) {
			s.ledger.committed(video, number)
		}
	}
	return nil
}

func (s *scene) updateAll(ctx context.Context) error {
	return s.update(ctx, "true", func(user int) []int {
		all := numbered(s.ledger.each)
		for i := range all {
			all[i] += user * s.ledger.each
		}
		return all
	})
}

// forgotten waits until no replica has anything of a crowd that has left: a feed outlives its last session.
func (s *scene) forgotten(ctx context.Context) error {
	var failed error
	err := until(ctx, "the replicas have forgotten the clients", func() bool {
		var feeds float64
		feeds, failed = metrics(ctx, s.gateways, "reelay_feeds")
		return failed != nil || feeds == 0
	})
	return errors.Join(err, failed)
}

// measure has something happen, waits until every client has everything, and adds how long that took and what it cost.
func (s *scene) measure(ctx context.Context, f *stormed, happen func(begun time.Time) error) error {
	queries, err := metrics(ctx, s.gateways, "reelay_log_queries_total")
	if err != nil {
		return err
	}
	m, err := s.newMeter(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := happen(begun); err != nil {
		return err
	}
	if err := s.crowd.settle(ctx); err != nil {
		return err
	}
	f.whole = append(f.whole, milliseconds(time.Since(begun)))
	f.servers = append(f.servers, m.used().servers().Seconds())
	after, err := metrics(ctx, s.gateways, "reelay_log_queries_total")
	f.queries = append(f.queries, after-queries)
	return err
}
