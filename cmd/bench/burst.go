package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// burstVideos is how many videos a user has in a burst: fifty thousand rows.
const burstVideos = 50

// burstAlone measures the statement by itself.
func burstAlone(ctx context.Context, o options, f *stormed) error {
	s, err := startFor(ctx, o, users, burstVideos)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop(ctx) }()
	begun := time.Now()
	if _, err := s.db.ExecContext(ctx, "UPDATE videos SET progress = 1"); err != nil {
		return fmt.Errorf("update all: %w", err)
	}
	f.commit = append(f.commit, milliseconds(time.Since(begun)))
	f.events = users * burstVideos
	return nil
}

// burstListen lets one client hear of each row by LISTEN.
func burstListen(ctx context.Context, o options, f *stormed) error {
	s, err := startFor(ctx, o, users, burstVideos)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop(ctx) }()
	if err := notifyTrigger(ctx, s.db); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.url())
	if err != nil {
		return fmt.Errorf("connect a listener: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN changed"); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	begun := time.Now()
	committed := make(chan error, 1)
	var commit time.Duration
	go func() { // ended by what is received below, or by ctx
		_, err := s.db.ExecContext(ctx, "UPDATE videos SET progress = 1")
		commit = time.Since(begun)
		committed <- err
	}()
	f.clients, f.events = 1, users*burstVideos
	for n := range f.events {
		waiting, cancel := context.WithTimeout(ctx, settleLimit)
		_, err := conn.WaitForNotification(waiting)
		cancel()
		if err != nil {
			return errors.Join(fmt.Errorf("wait for notification %d: %w", n+1, err), <-committed)
		}
		if n == 0 {
			f.first = append(f.first, milliseconds(time.Since(begun)))
		}
	}
	f.whole = append(f.whole, milliseconds(time.Since(begun)))
	err = <-committed
	f.commit = append(f.commit, milliseconds(commit))
	return err
}

// burstReelay changes all rows at once, with a client of each user connected to one of two replicas.
func burstReelay(ctx context.Context, o options, f *stormed) error {
	s, err := newScene(ctx, o, 2, users, burstVideos, 1)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	f.clients, f.events = len(s.crowd.sockets), s.ledger.rows()
	watching, seen := context.WithCancel(ctx)
	defer seen()
	err = s.measure(ctx, f, func(begun time.Time) error {
		first := make(chan time.Duration, 1)
		go func() { // ends with the first event, or the measurement
			for s.crowd.delivered.Load() == 0 && watching.Err() == nil {
				pause(watching, time.Millisecond)
			}
			first <- time.Since(begun)
		}()
		if err := s.updateAll(ctx); err != nil {
			return err
		}
		f.commit = append(f.commit, milliseconds(time.Since(begun)))
		select {
		case took := <-first:
			f.first = append(f.first, milliseconds(took))
		case <-time.After(settleLimit): // what was lost is counted
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.audit(s.crowd)
}
