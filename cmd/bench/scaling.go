package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// homeUsers is how many users a replica has, where nothing else is said.
	homeUsers = 250
	// everyUsers is how many users there are in the largest system, so that all have rows.
	everyUsers = 1000
	// eventsPerUser is how many events each active user gets in a second.
	eventsPerUser = 4
	// bulkOf is how many rows a bulk commit changes.
	bulkOf = 50
)

// systems are what a replica is a part of, from the smallest on. The leader is one more gateway, without clients.
var systems = []struct {
	name     string
	rows     int // a commit
	replicas int
	users    int // on each
	away     int // with as many events as the others, and no clients anywhere
}{
	{"the smallest", 1, 1, homeUsers, 0},
	{"users come who are nowhere connected", 1, 1, homeUsers, 3 * homeUsers},
	{"replicas come, with their users", 1, 4, homeUsers, 0},
	{"the smallest", bulkOf, 1, homeUsers, 0},
	{"users come who are nowhere connected", bulkOf, 1, homeUsers, 3 * homeUsers},
	{"users come to this replica", bulkOf, 1, 2 * homeUsers, 0},
	{"users come to this replica", bulkOf, 1, 4 * homeUsers, 0},
	{"replicas come, with their users", bulkOf, 2, homeUsers, 0},
	{"replicas come, with their users", bulkOf, 4, homeUsers, 0},
}

// scaling measures what one replica's CPU does for an event of its own users, while the system grows around it.
func scaling(ctx context.Context, o options) (*table, error) {
	t := &table{
		Name: "scaling", Title: "CPU seconds of one replica for 100,000 events of its own users, while the system grows",
		Columns: append([]column{
			{"change", "what grows", 0},
			{"rows", "rows a commit", 0},
			{"replicas", "replicas", 0},
			{"users", "active users", 0},
			{"events", "events/s of all", 0},
			{"here", "users here", 0},
			{"events_here", "events/s here", 0},
			{"cpu_here", "CPU s/100,000 here", 2},
			{"ratio", "to the smallest", 2},
			{"cpu_redis", "Redis, s/100,000 of all", 2},
		}, countColumns...),
		Notes: []string{
			fmt.Sprintf("Each active user gets %d events a second, and has one socket. The leader is one more gateway, without clients.", eventsPerUser),
			"Most of the CPU is for waking up: for events of its own, of which a larger system may bring fewer at a time, and for each batch's mark.",
		},
	}
	// All of them in turns, again and again, on the same servers: gateways are not stopped in between, so the smaller
	// systems have idle replicas beside them.
	s, err := startFor(ctx, o, everyUsers, perUser)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	if err := s.replicas(ctx, o, 5); err != nil {
		return nil, err
	}
	if err := s.watch(ctx); err != nil {
		return nil, err
	}
	l := newLedger(everyUsers, perUser)
	found := make([]share, len(systems))
	for round := range o.rounds {
		for i := range systems {
			i = (i + round) % len(systems)
			o.progress.stepf("round %d of %d, %d rows a commit, %s: %d replicas, %d users here", round+1, o.rounds, systems[i].rows, systems[i].name, systems[i].replicas, systems[i].users)
			if err := s.share(ctx, o, l, i, &found[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", systems[i].name, err)
			}
		}
	}
	bars := chart{title: "CPU seconds of one replica for 100,000 events of its own users", unit: "s", series: []series{{name: "replica"}}}
	var smallest float64
	for i, system := range systems {
		f := &found[i]
		if i == 0 || system.rows != systems[i-1].rows {
			smallest = f.cpu.median()
		}
		active := system.replicas*system.users + system.away
		r := row{
			"change": system.name, "rows": system.rows, "replicas": system.replicas, "users": active, "here": system.users, "events": f.all.median(),
			"events_here": f.here.median(), "cpu_here": known(f.cpu), "cpu_redis": known(f.redis), "lost": f.lost, "twice": f.twice,
		}
		if smallest > 0 {
			r["ratio"] = f.cpu.median() / smallest
		}
		t.add(r)
		bars.labels = append(bars.labels, fmt.Sprintf("%d × %d, all %d, rows %d", system.replicas, system.users, active, system.rows))
		bars.series[0].values = append(bars.series[0].values, f.cpu.median())
	}
	t.Charts = []chart{bars}
	return t, nil
}

// share is one replica's part of a system.
type share struct {
	all, here, cpu, redis quantity
	lost, twice           int
}

// share measures a system once, and adds what it finds.
func (s *stack) share(ctx context.Context, o options, l *ledger, system int, to *share) error {
	is := systems[system]
	connected := is.replicas * is.users
	// User n of those connected is at replica n modulo their number.
	c, err := newCrowd(l, addresses(s.gateways[1:1+is.replicas]), numbered(connected), 1)
	if err != nil {
		return err
	}
	defer c.leave()
	if err := c.join(ctx); err != nil {
		return err
	}
	c.forget()
	active := connected + is.away
	writers := load{
		url: s.url(), ledger: l, writers: bulkWriters, perSecond: float64(active*eventsPerUser) / float64(is.rows),
		pick: manyRows(&ledger{each: l.each, entries: l.entries[:active]}, bulkWriters, is.rows),
	}
	defer writers.close(ctx)
	if err := writers.connect(ctx); err != nil {
		return err
	}
	m, err := s.newMeter(ctx)
	if err != nil {
		return err
	}
	here := s.gateways[1].process.PID()
	before, begun := cpuOf(here), time.Now()
	commits, _, err := writers.run(ctx, 2*o.seconds)
	if err == nil {
		err = c.settle(ctx)
	}
	if err != nil {
		return err
	}
	took, used := time.Since(begun).Seconds(), m.used()
	mine := 0.0
	for _, socket := range c.sockets {
		if socket.address == s.gateways[1].public {
			mine += float64(socket.count.Load())
		}
	}
	all := float64(commits) * float64(is.rows)
	to.all, to.here = append(to.all, all/took), append(to.here, mine/took)
	to.cpu = append(to.cpu, (cpuOf(here)-before).Seconds()/mine*100_000)
	to.redis = append(to.redis, used.redis.Seconds()/all*100_000)
	lost, twice, err := c.wrong()
	to.lost, to.twice = to.lost+lost, to.twice+twice
	return err
}
