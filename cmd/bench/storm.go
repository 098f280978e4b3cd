package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// clientsPerUser is how many clients of each user there are in a storm.
	clientsPerUser = 2
	// burstVideos is how many videos a user has in a burst: fifty thousand rows.
	burstVideos = 50
	// awayFor and awayEvents are how long clients are away, and what they miss.
	awayFor    = 5 * time.Second
	awayEvents = 2000
)

// storm measures what comes all at once.
func storm(ctx context.Context, o options) (*table, error) {
	t := &table{
		Name: "storm", Title: "all at once: milliseconds from the first connect, or from before the commit, until every client has everything",
		Columns: append([]column{
			{"case", "case", 0},
			{"clients", "clients", 0},
			{"events", "events", 0},
			{"commit", "commit ms", 0},
			{"first", "first event ms", 0},
			{"ready", "all connected ms", 0},
			{"whole", "all have all ms", 0},
			{"queries", "queries", 0},
			{"servers", "servers' CPU s", 2},
		}, countColumns...),
		Notes: []string{
			"Storm: half as many users as clients, on two replicas that have forgotten them, and an event for each while they were away.",
			fmt.Sprintf("Back: away for %d s, and %s events committed meanwhile, two for each. Queries are those of the log, by all replicas.",
				int(awayFor.Seconds()), grouped(fmt.Sprint(awayEvents))),
		},
	}
	steps := []struct {
		name    string
		measure func(context.Context, options, *stormed) error
	}{
		{"as many handshakes of a bare gorilla/websocket server (limit)", bareStorm},
		{"storm: all reconnect with a cursor", reelayStorm},
		{"burst: one UPDATE of 50,000 rows, no trigger (limit)", burstAlone},
		{"burst: the same, a bare LISTEN client (limit)", burstListen},
		{"burst: the same, Reelay", burstReelay},
		{"back: 1,000 clients that missed 2,000 events", back},
	}
	bars := chart{title: "Until every client has everything", unit: "ms", labels: []string{"all have all"}}
	for _, step := range steps {
		found := new(stormed)
		for round := range o.rounds {
			o.progress.stepf("round %d of %d, %s", round+1, o.rounds, step.name)
			if err := step.measure(ctx, o, found); err != nil {
				return nil, fmt.Errorf("%s: %w", step.name, err)
			}
		}
		t.add(found.row(step.name))
		bars.series = append(bars.series, series{step.name, []float64{found.whole.median()}})
	}
	t.Charts = []chart{bars}
	return t, nil
}

// stormed is what was found, in milliseconds; what does not apply is empty.
type stormed struct {
	clients, events                               int
	commit, first, ready, whole, queries, servers quantity
	lost, twice                                   int
}

func (f *stormed) row(name string) row {
	r := row{
		"case": name, "commit": known(f.commit), "first": known(f.first), "ready": known(f.ready), "whole": known(f.whole),
		"servers": known(f.servers), "lost": f.lost, "twice": f.twice,
	}
	if len(f.queries) > 0 {
		r["queries"] = f.queries.median()
	}
	if f.clients > 0 {
		r["clients"] = f.clients
	}
	if f.events > 0 {
		r["events"] = f.events
	}
	return r
}

func (f *stormed) audit(c *crowd) error {
	lost, twice, err := c.wrong()
	f.lost, f.twice = f.lost+lost, f.twice+twice
	return err
}

// bareStorm connects as many clients to a server that does nothing but upgrade them.
func bareStorm(ctx context.Context, o options, f *stormed) error {
	b, err := startBare(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = b.stop(ctx) }()
	f.clients = o.conns
	n := (o.conns + clientsPerUser - 1) / clientsPerUser
	c, err := newCrowd(newLedger(n, 1), []string{b.address}, numbered(n), clientsPerUser)
	if err != nil {
		return err
	}
	defer c.leave()
	c.dialers = manyDialers
	before, begun := cpuOf(b.process.PID()), time.Now()
	if err := c.join(ctx); err != nil {
		return err
	}
	took := milliseconds(time.Since(begun))
	f.ready, f.whole = append(f.ready, took), append(f.whole, took)
	f.servers = append(f.servers, (cpuOf(b.process.PID()) - before).Seconds())
	return f.audit(c)
}

// scene is servers with a crowd.
type scene struct {
	*stack
	ledger *ledger
	crowd  *crowd
}

// newScene starts servers and connects a crowd to all gateways. end stops both.
func newScene(ctx context.Context, o options, gateways, n, each, sockets int) (s *scene, err error) {
	s = &scene{ledger: newLedger(n, each)}
	if s.stack, err = start(ctx, o, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.end(ctx)
		}
	}()
	if err := s.populate(ctx, n, each); err != nil {
		return s, err
	}
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

// again lets the crowd come back, and adds how long that took and what it cost.
func (s *scene) again(ctx context.Context, f *stormed) error {
	queries, err := metrics(ctx, s.gateways, "reelay_log_queries_total")
	if err != nil {
		return err
	}
	m, err := s.newMeter(ctx)
	if err != nil {
		return err
	}
	s.crowd.dialers = manyDialers
	begun := time.Now()
	if err := s.crowd.join(ctx); err != nil {
		return err
	}
	f.ready = append(f.ready, milliseconds(time.Since(begun)))
	if err := s.crowd.settle(ctx); err != nil {
		return err
	}
	f.whole = append(f.whole, milliseconds(time.Since(begun)))
	u := m.used()
	f.servers = append(f.servers, (u.leader + u.replica + u.redis + u.writers + u.reading).Seconds())
	after, err := metrics(ctx, s.gateways, "reelay_log_queries_total")
	if err != nil {
		return err
	}
	f.queries = append(f.queries, after-queries)
	// They are live: what is committed now arrives.
	if err := s.updateAll(ctx); err != nil {
		return err
	}
	if err := s.crowd.settle(ctx); err != nil {
		return err
	}
	return f.audit(s.crowd)
}

// reelayStorm cuts off all clients, waits until the replicas have forgotten them, and lets them come back at once.
func reelayStorm(ctx context.Context, o options, f *stormed) error {
	s, err := newScene(ctx, o, 2, (o.conns+clientsPerUser-1)/clientsPerUser, 1, clientsPerUser)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	f.clients, f.events = len(s.crowd.sockets), len(s.ledger.entries)
	s.crowd.leave()
	if err := s.forgotten(ctx); err != nil {
		return err
	}
	if err := s.updateAll(ctx); err != nil {
		return err
	}
	return s.again(ctx, f)
}

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
	return s.again(ctx, f)
}

// burstAlone measures the statement by itself.
func burstAlone(ctx context.Context, o options, f *stormed) error {
	s, err := start(ctx, o, 0)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop(ctx) }()
	if err := s.populate(ctx, users, burstVideos); err != nil {
		return err
	}
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
	s, err := start(ctx, o, 0)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop(ctx) }()
	if err := s.populate(ctx, users, burstVideos); err != nil {
		return err
	}
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
	queries, err := metrics(ctx, s.gateways, "reelay_log_queries_total")
	if err != nil {
		return err
	}
	m, err := s.newMeter(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	first := make(chan time.Duration, 1)
	go func() { // ends with the first event
		for s.crowd.delivered.Load() == 0 && ctx.Err() == nil {
			pause(ctx, time.Millisecond)
		}
		first <- time.Since(begun)
	}()
	if err := s.updateAll(ctx); err != nil {
		return err
	}
	f.commit = append(f.commit, milliseconds(time.Since(begun)))
	if err := s.crowd.settle(ctx); err != nil {
		return err
	}
	f.whole = append(f.whole, milliseconds(time.Since(begun)))
	u := m.used()
	f.servers = append(f.servers, (u.leader + u.replica + u.redis + u.writers + u.reading).Seconds())
	after, err := metrics(ctx, s.gateways, "reelay_log_queries_total")
	if err != nil {
		return err
	}
	f.queries = append(f.queries, after-queries)
	if s.crowd.delivered.Load() > 0 {
		f.first = append(f.first, milliseconds(<-first))
	}
	return f.audit(s.crowd)
}
