package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// scenario says how much goes on.
type scenario struct {
	users        int   // each with its own videos
	sockets      int   // of each user, spread over the replicas
	connections  int   // that write
	transactions int64 // to be committed in all; 0: until the faults have been played
	pace         time.Duration
	seed         uint64
}

// outcome is what a scenario came to.
type outcome struct {
	verdict
	Events       int   // that were to be sent, over all users
	Received     int   // over all watchers
	Transactions int64 // committed
	Failed       int64 // ended by an outage
	Watchers     int
	Resets       int
}

// play lets the application write and clients watch while faults does its worst, waits for quiet, and compares.
// faults may be nil.
func (s *stack) play(ctx context.Context, sc scenario, faults func(context.Context) error) (outcome, error) {
	users := make([]string, sc.users)
	for i := range users {
		users[i] = fmt.Sprintf("user-%d", i)
	}
	watching, stopWatching := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stopWatching()
	watchers, failed, err := s.watch(watching, &group, users, sc.sockets)
	if err != nil {
		return outcome{}, err
	}
	s.watchers = watchers
	if err := until(ctx, time.Minute, "every client has its snapshot", func() bool { return all(watchers, (*watcher).isStarted) }); err != nil {
		return outcome{}, errors.Join(err, failed())
	}

	w := &writers{db: s.db, users: users, limit: sc.transactions, pace: sc.pace}
	if err := s.writeThrough(ctx, w, sc, faults); err != nil {
		return outcome{}, errors.Join(err, failed())
	}
	// A marker for each user, in the same log: who has it has everything before, and whatever came twice.
	for _, user := range users {
		if err := s.mark(ctx, user, "end"); err != nil {
			return outcome{}, err
		}
	}
	if err := until(ctx, time.Minute, "every client has the last marker", func() bool {
		return all(watchers, func(w *watcher) bool { return w.seen("end") })
	}); err != nil {
		for _, w := range watchers {
			if !w.seen("end") {
				err = errors.Join(err, fmt.Errorf("%s has not, its cursor is %s", w.name, w.client.Cursor()))
			}
		}
		return outcome{}, errors.Join(err, failed())
	}
	stopWatching()
	group.Wait()
	if err := failed(); err != nil {
		return outcome{}, err
	}
	return s.compare(ctx, watchers, w)
}

// writeThrough writes until the application has committed its share, or the faults have been played.
func (s *stack) writeThrough(ctx context.Context, w *writers, sc scenario, faults func(context.Context) error) error {
	writing, stop := context.WithCancel(ctx)
	defer stop()
	written := make(chan error, 1)
	go func() { written <- w.run(writing, sc.connections, sc.seed) }() // its end is waited for below
	var err error
	if faults != nil {
		err = faults(ctx)
		if sc.transactions == 0 {
			stop()
		}
	}
	return errors.Join(err, <-written)
}

// watch starts the clients. failed says what ended any of them before its time.
func (s *stack) watch(ctx context.Context, group *sync.WaitGroup, users []string, sockets int) (watchers []*watcher, failed func() error, err error) {
	var mu sync.Mutex
	var errs []error
	for _, user := range users {
		for n := range sockets {
			w, err := newWatcher(user, fmt.Sprintf("%s/%d", user, n), s.token(user), spread(len(watchers), s.addresses))
			if err != nil {
				return nil, nil, err
			}
			watchers = append(watchers, w)
			group.Go(func() {
				if err := w.run(ctx); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
	}
	return watchers, func() error {
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(errs...)
	}, nil
}

// mark sends an event that only tells how far a client has come.
func (s *stack) mark(ctx context.Context, user, name string) error {
	_, err := s.db.ExecContext(ctx, "SELECT reelay.emit($1, $2, 'chaos.marker')", user, name)
	if err != nil {
		return fmt.Errorf("send a marker: %w", err)
	}
	return nil
}

func (s *stack) compare(ctx context.Context, watchers []*watcher, w *writers) (outcome, error) {
	t, err := readTruth(ctx, s.db)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Events: t.total, Transactions: w.committed.Load(), Failed: w.failed.Load(), Watchers: len(watchers)}
	for _, w := range watchers {
		o.add(w.check(t))
		o.Received += w.received
		o.Resets += w.resets
	}
	return o, nil
}

func all(watchers []*watcher, is func(*watcher) bool) bool {
	for _, w := range watchers {
		if !is(w) {
			return false
		}
	}
	return true
}
