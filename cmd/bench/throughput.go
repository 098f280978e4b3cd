package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// aheadMost is how many events the writers may be ahead of the clients: enough that nobody waits for work, and that the
// leader's batches are full.
const aheadMost = 20_000

// saturated are the cases of the table.
var saturated = []struct {
	key, name string
	measure   func(*saturation, context.Context, string) (*flow, error)
}{
	{"limit", "updates alone, no trigger (limit)", (*saturation).updatesAlone},
	{"one", "Reelay, 1 socket a user", func(s *saturation, ctx context.Context, key string) (*flow, error) { return s.deliver(ctx, key, 1) }},
	{"ten", "Reelay, 10 sockets a user", func(s *saturation, ctx context.Context, key string) (*flow, error) { return s.deliver(ctx, key, 10) }},
	{"bare", "bare gorilla/websocket writer, 10 sockets a user (limit)", (*saturation).bareWriter},
}

// throughput measures what gets through when more is waiting than can be delivered.
func throughput(ctx context.Context, o options) (*table, error) {
	found := make(map[string]*flows)
	for round := range o.rounds {
		for i := range saturated {
			it := saturated[(i+round)%len(saturated)]
			o.progress.stepf("round %d of %d, %s", round+1, o.rounds, it.name)
			f, err := it.measure(&saturation{options: o, round: round}, ctx, it.key)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", it.name, err)
			}
			if found[it.key] == nil {
				found[it.key] = new(flows)
			}
			found[it.key].add(f)
		}
	}
	return throughputTable(found), nil
}

// flow is what one measurement found.
type flow struct {
	events, deliveries float64
	took               time.Duration
	used               cpuTimes
	lost, twice        int
}

// flows is all that were measured of one case: events and deliveries a second, and CPU for 100,000 deliveries.
type flows struct {
	events, deliveries                                  quantity
	leader, replica, redis, writers, reading, all, load quantity
	lost, twice                                         int
}

func (f *flows) add(one *flow) {
	f.events = append(f.events, one.events/one.took.Seconds())
	f.deliveries = append(f.deliveries, one.deliveries/one.took.Seconds())
	n := max(one.events, one.deliveries) / 100_000
	u := one.used
	for _, part := range []struct {
		to   *quantity
		used time.Duration
	}{
		{&f.leader, u.leader},
		{&f.replica, u.replica},
		{&f.redis, u.redis},
		{&f.writers, u.writers},
		{&f.reading, u.reading},
		{&f.all, u.servers()},
		{&f.load, u.ours},
	} {
		*part.to = append(*part.to, part.used.Seconds()/n)
	}
	f.lost, f.twice = f.lost+one.lost, f.twice+one.twice
}

func throughputTable(found map[string]*flows) *table {
	t := &table{
		Name: "throughput", Title: "at saturation: events and deliveries a second, and CPU seconds for 100,000 deliveries",
		Columns: append([]column{
			{"case", "case", 0},
			{"events", "events/s", 0},
			{"deliveries", "deliveries/s", 0},
			{"leader", "leader", 2},
			{"replica", "replica", 2},
			{"redis", "Redis", 2},
			{"postgres_writers", "Postgres, writers", 2},
			{"postgres_reelay", "Postgres, Reelay", 2},
			{"servers", "all servers", 2},
			{"over_bare", "replica / bare writer", 2},
			{"load", "load generator", 2},
		}, countColumns...),
		Notes: []string{
			fmt.Sprintf("Commits of %d rows of as many users from %d connections, up to %s events ahead of the clients. The leader has no clients, the replica all.",
				bulkRows, bulkWriters, grouped(strconv.Itoa(aheadMost))),
			"The load generator (clients and writers) runs on the same machine, and takes its part of the CPU from the servers.",
		},
	}
	rate := chart{title: "Deliveries a second at saturation", unit: "1/s", labels: []string{"deliveries/s"}}
	cpu := chart{title: "CPU seconds of servers for 100,000 deliveries", unit: "s"}
	parts := []string{"leader", "replica", "redis", "postgres_writers", "postgres_reelay"}
	for _, part := range parts {
		cpu.series = append(cpu.series, series{name: part})
	}
	for _, it := range saturated {
		f := found[it.key]
		r := row{
			"case": it.name, "events": known(f.events), "lost": f.lost, "twice": f.twice,
			"servers": known(f.all), "load": known(f.load), "leader": known(f.leader), "replica": known(f.replica), "redis": known(f.redis),
			"postgres_writers": known(f.writers), "postgres_reelay": known(f.reading),
		}
		if it.key != "limit" {
			r["deliveries"] = f.deliveries.median()
			rate.series = append(rate.series, series{it.name, []float64{f.deliveries.median()}})
		}
		if bare := found["bare"].replica.median(); bare > 0 && (it.key == "one" || it.key == "ten") {
			r["over_bare"] = f.replica.median() / bare
		}
		t.add(r)
		cpu.labels = append(cpu.labels, it.name)
		for i, part := range parts {
			value, _ := r[part].(float64)
			cpu.series[i].values = append(cpu.series[i].values, value)
		}
	}
	t.Charts = []chart{rate, cpu}
	return t
}

// known returns the median, or nil where nothing was measured.
func known(q quantity) any {
	if median := q.median(); median > 0 {
		return median
	}
	return nil
}

// saturation is one round.
type saturation struct {
	options
	round int
}

// bulk returns writers of many rows a commit, who wait for nobody.
func bulk(s *stack, l *ledger) *load {
	return &load{url: s.url(), ledger: l, writers: bulkWriters, pick: manyRows(l, bulkWriters, bulkRows)}
}

func (r *saturation) updatesAlone(ctx context.Context, _ string) (*flow, error) {
	s, err := start(ctx, r.options, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	writers := bulk(s, newLedger(users, perUser))
	defer writers.close(ctx)
	if err := writers.warm(ctx); err != nil {
		return nil, err
	}
	m, err := s.newMeter(ctx)
	if err != nil {
		return nil, err
	}
	commits, took, err := writers.run(ctx, r.seconds)
	used := m.used()
	used.redis = 0 // it idles
	return &flow{events: float64(commits * bulkRows), took: took, used: used}, err
}

// deliver runs Reelay with a leader that has no clients and a replica that has all of them.
func (r *saturation) deliver(ctx context.Context, key string, sockets int) (*flow, error) {
	s, err := start(ctx, r.options, 2)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	if err := s.watch(ctx); err != nil {
		return nil, err
	}
	l := newLedger(users, perUser)
	c, err := newCrowd(l, addresses(s.gateways[1:]), numbered(users), sockets)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	writers := bulk(s, l)
	defer writers.close(ctx)
	// Full speed first, for a moment: the leader wakes up, plans are made, pages are full.
	if _, _, err := writers.run(ctx, r.seconds/4); err != nil {
		return nil, err
	}
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	writers.begin = func(commit) bool {
		for l.total.Load()-c.delivered.Load()/int64(sockets) > aheadMost && ctx.Err() == nil {
			pause(ctx, time.Millisecond)
		}
		return true
	}
	profiled, err := r.profile(ctx, s, key)
	if err != nil {
		return nil, err
	}
	m, err := s.newMeter(ctx)
	if err != nil {
		return nil, err
	}
	delivered, begun := c.delivered.Load(), time.Now()
	commits, _, err := writers.run(ctx, r.seconds)
	if err == nil {
		err = c.settle(ctx)
	}
	if err != nil {
		return nil, err
	}
	f := &flow{
		events: float64(commits * bulkRows), deliveries: float64(c.delivered.Load() - delivered), took: time.Since(begun), used: m.used(),
	}
	if err := profiled(); err != nil {
		return nil, err
	}
	f.lost, f.twice, err = c.wrong()
	return f, err
}

// profile begins to take CPU profiles of both gateways, where that is asked for. What it returns waits for them.
func (r *saturation) profile(ctx context.Context, s *stack, key string) (wait func() error, err error) {
	if r.profiles == "" || r.round > 0 {
		return func() error { return nil }, nil
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, who := range []string{"leader", "replica"} {
		wg.Go(func() {
			seconds := int(r.seconds.Seconds())
			var content string
			content, errs[i] = fetchLong(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.gateways[i].admin, seconds))
			if errs[i] == nil {
				errs[i] = os.WriteFile(filepath.Join(r.profiles, key+"-"+who+".pprof"), []byte(content), 0o600)
			}
		})
	}
	return func() error {
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return fmt.Errorf("take a profile: %w", err)
			}
		}
		return nil
	}, nil
}

// bareWriter measures a server that does nothing but write to as many sockets.
func (r *saturation) bareWriter(ctx context.Context, _ string) (*flow, error) {
	b, err := startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.stop(ctx) }()
	l := newLedger(users, perUser)
	c, err := newCrowd(l, []string{b.address}, numbered(users), 10)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	before, begun := cpuOf(b.process.PID()), time.Now()
	ours := cpuOf(os.Getpid())
	rounds, err := b.write(ctx, r.seconds)
	if err != nil {
		return nil, err
	}
	for user, n := range rounds {
		number, err := strconv.Atoi(user)
		if err != nil {
			return nil, fmt.Errorf("read what the bare server wrote: %w", err)
		}
		for i := range n {
			l.committed(number*perUser, i+1)
		}
	}
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	f := &flow{deliveries: float64(c.delivered.Load()), took: time.Since(begun)}
	f.used = cpuTimes{replica: cpuOf(b.process.PID()) - before, ours: cpuOf(os.Getpid()) - ours}
	f.lost, f.twice, err = c.wrong()
	return f, err
}
