package main

import (
	"context"
	"fmt"
	"time"
)

// clientsPerUser is how many clients of each user there are in a storm.
const clientsPerUser = 2

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
	f.clients = o.sizes[0]
	n := (o.sizes[0] + clientsPerUser - 1) / clientsPerUser
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

// reelayStorm cuts off all clients, waits until the replicas have forgotten them, and lets them come back at once.
func reelayStorm(ctx context.Context, o options, f *stormed) error {
	s, err := newScene(ctx, o, 2, (o.sizes[0]+clientsPerUser-1)/clientsPerUser, 1, clientsPerUser)
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
	return s.comeBack(ctx, f)
}
