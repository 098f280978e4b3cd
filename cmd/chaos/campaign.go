package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// scenario says how much goes on.
type scenario struct {
	users       int // each with its own videos
	sockets     int // of each user, spread over the replicas
	connections int // that write
	pace        time.Duration
	seed        uint64
}

// outcome is what a campaign came to.
type outcome struct {
	verdict
	Events       int   // that were to be sent, over all users
	Received     int   // over all sessions
	Sessions     int   //
	Transactions int64 // committed
	Failed       int64 // ended by an outage
}

// campaign is a stack under load: an application that writes, sessions that keep what they receive, a prober, and a
// sentry before each replica.
type campaign struct {
	*stack
	scenario

	watchers []*watcher // all sessions that are compared with the truth
	probes   []*watcher // those of them that measure, one on each replica
	roamers  []*watcher // those that measure and go wherever they can
	sentries []*sentry
	writers  *writers
	prober   *prober
	machine  stillness

	outcome     outcome // so far
	comparisons int
	compared    int64 // of the application's log

	group  sync.WaitGroup
	cancel context.CancelFunc
	mu     sync.Mutex
	failed error // what ended a part before its time; guarded by mu
}

// begin starts the sessions, waits until each has its snapshot, and then starts the application. end ends all.
func (s *stack) begin(ctx context.Context, sc scenario) (*campaign, error) {
	c := &campaign{stack: s, scenario: sc}
	running, cancel := context.WithCancel(ctx)
	c.cancel = cancel
	err := c.populate(running)
	if err == nil {
		err = until(ctx, time.Minute, "every session has its snapshot", func() bool { return all(c.watchers, (*watcher).isStarted) })
	}
	if err == nil {
		err = c.write(running)
	}
	if err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// populate starts the sessions and the sentries.
func (c *campaign) populate(ctx context.Context) error {
	for u := range c.users {
		user := fmt.Sprintf("user-%d", u)
		for n := range c.sockets {
			if _, err := c.watch(ctx, user, fmt.Sprintf("%s/%d", user, n), nil); err != nil {
				return err
			}
		}
	}
	for _, r := range c.replicas {
		probe, err := c.watch(ctx, probeUser, "probe at "+r.name, r)
		if err != nil {
			return err
		}
		roamer, err := c.watch(ctx, probeUser, "probe that roams from "+r.name, nil)
		if err != nil {
			return err
		}
		c.probes, c.roamers = append(c.probes, probe), append(c.roamers, roamer)
		sentry := &sentry{replica: r, token: c.token("sentry")}
		c.sentries = append(c.sentries, sentry)
		c.group.Go(func() { sentry.run(ctx) })
	}
	return nil
}

// watch starts a session: on a replica, or on any if that is nil.
func (c *campaign) watch(ctx context.Context, user, name string, r *replica) (*watcher, error) {
	dial, handshake := spread(len(c.watchers), c.addresses), 10*time.Second
	if r != nil {
		dial, handshake = pinned(r), time.Hour
	}
	w, err := newWatcher(user, name, c.token(user), dial, handshake)
	if err != nil {
		return nil, err
	}
	w.replica = r
	c.watchers = append(c.watchers, w)
	c.run(func() error { return w.run(ctx) })
	return w, nil
}

// run runs a part of the campaign, and keeps its error.
func (c *campaign) run(part func() error) {
	c.group.Go(func() {
		if err := part(); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.failed = errors.Join(c.failed, err)
		}
	})
}

// failure returns what ended a part before its time.
func (c *campaign) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// write starts the application, the prober, and what keeps room in the log.
func (c *campaign) write(ctx context.Context) error {
	writing, err := c.open(c.connections)
	if err != nil {
		return err
	}
	probing, err := c.open(1)
	if err != nil {
		return errors.Join(err, writing.Close())
	}
	users := make([]string, c.users)
	for u := range users {
		users[u] = fmt.Sprintf("user-%d", u)
	}
	c.writers = &writers{db: writing, users: users, pace: c.pace}
	c.prober = &prober{db: probing}
	c.run(func() error {
		defer writing.Close()
		return c.writers.run(ctx, c.connections, c.seed)
	})
	c.group.Go(func() {
		defer probing.Close()
		c.prober.run(ctx)
	})
	c.group.Go(func() { c.machine.run(ctx) })
	if c.config.width > 0 {
		c.group.Go(func() { keepRoom(ctx, c.db) })
	}
	return nil
}

// keepRoom makes partitions as often as small ones fill: a leader does so for those of the usual size.
func keepRoom(ctx context.Context, db *sql.DB) {
	for ctx.Err() == nil {
		_, _ = db.ExecContext(ctx, "SELECT reelay.extend_log()") // in an outage, or while one is locked: next time
		pause(ctx, time.Second)
	}
}

// end ends all, and returns what had ended before.
func (c *campaign) end() error {
	c.cancel()
	c.group.Wait()
	if c.writers != nil {
		c.outcome.Transactions, c.outcome.Failed = c.writers.committed.Load(), c.writers.failed.Load()
	}
	c.outcome.Sessions = len(c.watchers)
	for _, w := range c.watchers {
		c.outcome.Received += w.received
	}
	return c.failure()
}

// compare lets the application pause, waits until every session has all that was committed, and compares what each
// received since the last time with the truth.
func (c *campaign) compare(ctx context.Context) (verdict, error) {
	c.writers.gate.Lock()
	defer c.writers.gate.Unlock()
	c.prober.gate.Lock()
	defer c.prober.gate.Unlock()
	// A marker for each user, in the same log: who has it has everything before, and whatever came twice.
	c.comparisons++
	marker := fmt.Sprintf("marker-%d", c.comparisons)
	if err := c.mark(ctx, marker); err != nil {
		return verdict{}, err
	}
	err := until(ctx, time.Minute, "every session has the last marker", func() bool {
		return c.failure() != nil || all(c.watchers, func(w *watcher) bool { return w.seen(marker) })
	})
	if failed := errors.Join(ctx.Err(), c.failure()); failed != nil {
		return verdict{}, failed
	}
	if err != nil {
		var lacking []string
		for _, w := range c.watchers {
			if !w.seen(marker) {
				lacking = append(lacking, fmt.Sprintf("%s at %s", w.name, w.client.Cursor()))
			}
		}
		err = fmt.Errorf("%w: %d of %d have not: %s", err, len(lacking), len(c.watchers), trimmed(strings.Join(lacking, ", ")))
	}
	// Also then: what is missing in detail is worth to be known.
	v, failed := c.check(ctx)
	return v, errors.Join(err, failed)
}

// check compares, now.
func (c *campaign) check(ctx context.Context) (v verdict, err error) {
	t, err := readTruth(ctx, c.db, c.compared)
	if err != nil {
		return v, err
	}
	for _, w := range c.watchers {
		v.add(w.check(t))
	}
	c.compared = t.last
	c.outcome.Events += t.total
	c.outcome.add(v)
	return v, nil
}

// mark sends an event to every user, that only tells how far a client has come.
func (c *campaign) mark(ctx context.Context, name string) error {
	var last error
	err := until(ctx, 20*time.Second, "Postgres takes a write", func() bool {
		_, last = c.db.ExecContext(ctx, `SELECT reelay.emit(owner, $1, $2)
			FROM (SELECT 'user-' || u AS owner FROM generate_series(0, $3 - 1) u UNION ALL SELECT $4) owners`, name, markerType, c.users, probeUser)
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("send markers: %w: %w", err, last)
	}
	return nil
}

// whole waits until all is as it should be: every replica is ready and serves, one leads, all hear Redis, and every
// session is live, and was not last told that events cannot be read.
func (c *campaign) whole(ctx context.Context) error {
	if _, err := c.stack.leader(ctx); err != nil {
		return err
	}
	return until(ctx, time.Minute, "all is as it was", func() bool {
		return c.failure() != nil || c.busUp(ctx, c.replicas...) && c.well(c.replicas...) && all(c.watchers, (*watcher).isLive) && all(c.watchers, (*watcher).isAvailable)
	})
}

// busUp says whether events reach these replicas by Redis.
func (c *campaign) busUp(ctx context.Context, replicas ...*replica) bool {
	for _, r := range replicas {
		if m, err := r.metrics(ctx); err != nil || m.sum("reelay_hub_bus_up") != 1 {
			return false
		}
	}
	return true
}

// well says whether these replicas serve clients, and say so.
func (c *campaign) well(replicas ...*replica) bool {
	return all(c.sentriesOf(replicas...), (*sentry).well)
}

func (c *campaign) sentriesOf(replicas ...*replica) []*sentry {
	var some []*sentry
	for _, s := range c.sentries {
		for _, r := range replicas {
			if s.replica == r {
				some = append(some, s)
			}
		}
	}
	return some
}

// probesOf returns the probes' sessions on these replicas.
func (c *campaign) probesOf(replicas ...*replica) []*watcher {
	var some []*watcher
	for _, w := range c.probes {
		for _, r := range replicas {
			if w.replica == r {
				some = append(some, w)
			}
		}
	}
	return some
}

func all[T any](things []T, is func(T) bool) bool {
	for _, thing := range things {
		if !is(thing) {
			return false
		}
	}
	return true
}
