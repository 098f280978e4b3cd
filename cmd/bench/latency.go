package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// rates are commits a second; 0 is the highest that is sustained.
var rates = []int{200, 1000, 0}

// latency measures the time from before COMMIT to the client, at several rates of single-row updates.
func latency(ctx context.Context, o options) (*table, error) {
	s, err := start(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	found := make(map[string]*latencies)
	for round := range o.rounds {
		for i := range listeners {
			way := listeners[(i+round)%len(listeners)]
			o.progress.stepf("round %d of %d, %s: connecting", round+1, o.rounds, way.name)
			if err := s.time(ctx, o, way, found, fmt.Sprintf("round %d of %d", round+1, o.rounds)); err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
		}
	}
	return latencyTable(found), nil
}

// latencies is what was measured of one listener at one rate, a value for each round.
type latencies struct {
	commits, p50, p99, most quantity
	lost, twice             int
}

func latencyTable(found map[string]*latencies) *table {
	t := &table{
		Name: "latency", Title: "milliseconds from before the UPDATE to the client; 1,000 users with 10 videos and a socket each",
		Columns: append([]column{
			{"rate", "rate", 0}, {"way", "by", 0}, {"commits", "commits/s", 0}, {"p50", "p50 ms", 2}, {"p99", "p99 ms", 2}, {"max", "max ms", 1},
		}, countColumns...),
		Notes: []string{
			fmt.Sprintf("Sustained: the highest rate at which the last event came within %d ms of the last commit, single rows from %d connections.",
				behindMost.Milliseconds(), singleWriters),
			"A bare LISTEN is one client that hears everything. The bare socket server has the same 1,000 clients as Reelay, no trigger, and is told of each commit by who made it.",
		},
	}
	p50 := chart{title: "Latency, median", unit: "ms"}
	p99 := chart{title: "Latency, 99th percentile", unit: "ms"}
	sustained := chart{title: "Single-row commits a second, sustained", unit: "commits/s", labels: []string{"sustained"}}
	for _, perSecond := range rates {
		name := rateName(perSecond)
		p50.labels, p99.labels = append(p50.labels, name), append(p99.labels, name)
		for i, way := range listeners {
			l := found[way.key+name]
			r := row{
				"rate": name, "way": way.name, "commits": l.commits.median(), "p50": l.p50.median(), "p99": l.p99.median(),
				"max": quantile(l.most, 1), "lost": l.lost, "twice": l.twice,
			}
			t.add(r)
			if len(p50.series) <= i {
				p50.series, p99.series = append(p50.series, series{name: way.name}), append(p99.series, series{name: way.name})
			}
			p50.series[i].values = append(p50.series[i].values, l.p50.median())
			p99.series[i].values = append(p99.series[i].values, l.p99.median())
			if perSecond == 0 {
				sustained.series = append(sustained.series, series{way.name, []float64{l.commits.median()}})
			}
		}
	}
	t.Charts = []chart{p50, p99, sustained}
	return t
}

func rateName(perSecond int) string {
	if perSecond == 0 {
		return "sustained"
	}
	return grouped(strconv.Itoa(perSecond)) + "/s"
}

// time measures one listener at all rates, and adds the results to found.
func (s *stack) time(ctx context.Context, o options, way listener, found map[string]*latencies, step string) (err error) {
	m := &timing{stack: s, ledger: newLedger(users, perUser)}
	if _, err := s.db.ExecContext(ctx, "UPDATE videos SET progress = 0"); err != nil { // unwatched: no events
		return err
	}
	err = way.follow(m, ctx, o)
	defer func() { err = errors.Join(err, m.end(ctx)) }()
	if err != nil {
		return err
	}
	for _, perSecond := range rates {
		o.progress.stepf("%s, %s, %s", step, way.name, rateName(perSecond))
		var r *round
		if perSecond > 0 {
			r, err = m.round(ctx, o.seconds, float64(perSecond))
		} else {
			r, err = m.sustained(ctx, o.seconds)
		}
		if err != nil {
			return err
		}
		key := way.key + rateName(perSecond)
		if found[key] == nil {
			found[key] = new(latencies)
		}
		l := found[key]
		took := r.took()
		l.commits = append(l.commits, float64(r.commits)/r.writing.Seconds())
		l.p50, l.p99, l.most = append(l.p50, quantile(took, 0.5)), append(l.p99, quantile(took, 0.99)), append(l.most, quantile(took, 1))
		l.lost, l.twice = l.lost+r.lost, l.twice+r.twice
	}
	return nil
}
