package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// steadyRows is how many rows the table has after that of the beginning, however long it runs, and steadyEach how
	// many samples there are for each of them: enough that a quarter of the time has a median.
	steadyRows, steadyEach = 11, 4
	// steadyKept is how many times its retention a run is long, so that most of what it writes is trimmed before its end.
	steadyKept = 6
	// steadyLeast is how long a run has to be to be judged: autovacuum looks once a minute.
	steadyLeast = 10 * time.Minute
	// steadyMost is how much larger a table may be in the last quarter than in the second to be called steady.
	steadyMost = 1.1
)

// retention is how long events are kept in a run of some length. Gateways take no less than a minute.
func retention(d time.Duration) time.Duration {
	return max(time.Minute, d/steadyKept).Round(time.Second)
}

// steady keeps a load going for a while, and looks how large the tables stay.
func steady(ctx context.Context, o options) (*table, error) {
	s, err := start(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	s.settings = []string{"REELAY_RETENTION=" + retention(o.steady).String()}
	if err := s.replicas(ctx, o, 1); err != nil {
		return nil, err
	}
	if err := s.watch(ctx); err != nil {
		return nil, err
	}
	l := newLedger(users, perUser)
	c, err := newCrowd(l, addresses(s.gateways), numbered(users), 1)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	w := &watch{stack: s, crowd: c}
	c.onEvent = w.arrive
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	if err := w.follow(ctx, o); err != nil {
		return nil, err
	}
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	lost, twice, err := c.wrong()
	if err != nil {
		return nil, err
	}
	return w.table(o, lost, twice), nil
}

// follow writes, and looks meanwhile.
func (w *watch) follow(ctx context.Context, o options) error {
	writing, stop := context.WithCancel(ctx)
	writers := load{
		url: w.stack.url(), ledger: w.crowd.ledger, writers: singleWriters, pick: oneRow(w.crowd.ledger),
		perSecond: float64(o.rate), begin: w.begin,
	}
	defer writers.close(ctx)
	if err := writers.warm(ctx); err != nil {
		stop()
		return err
	}
	written := make(chan error, 1)
	begun := time.Now()
	go func() { // ends when its time is over, or by stop; waited for below
		_, _, err := writers.run(writing, o.steady)
		written <- err
	}()
	err := w.looks(ctx, o, begun)
	if err != nil {
		stop()
	}
	failed := <-written
	stop()
	if err != nil {
		return err
	}
	return failed
}

// looks looks again and again, evenly spaced, the first at once.
func (w *watch) looks(ctx context.Context, o options, begun time.Time) error {
	const all = steadyRows * steadyEach
	for i := range all + 1 {
		select {
		case err := <-w.crowd.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(begun.Add(o.steady * time.Duration(i) / all))):
		}
		if err := w.look(ctx, time.Since(begun)); err != nil {
			return err
		}
		is := w.taken[i]
		o.progress.stepf("%v of %v: outbox %.0f KB, state %.0f KB, owner_head %.0f KB, %d events waiting",
			is.time(), o.steady, is.outbox/1024, is.state/1024, is.heads/1024, is.waiting)
		if i%steadyEach == 0 {
			w.entry(is)
		}
	}
	return nil
}

// quarters returns the medians of a size in the second and in the last quarter of the time.
func (w *watch) quarters(d time.Duration, size func(glance) float64) (second, last float64) {
	var of [2]quantity
	for _, is := range w.taken {
		switch {
		case is.at > d/4 && is.at <= d/2:
			of[0] = append(of[0], size(is))
		case is.at > d*3/4:
			of[1] = append(of[1], size(is))
		}
	}
	return of[0].median(), of[1].median()
}

// judged are the sizes that must not grow.
var judged = []struct {
	key, name string
	of        func(glance) float64
}{
	{"outbox", "outbox", func(s glance) float64 { return s.outbox }},
	{"state", "state", func(s glance) float64 { return s.state }},
	{"owner_head", "owner_head", func(s glance) float64 { return s.heads }},
}

func (w *watch) table(o options, lost, twice int) *table {
	t := &table{
		Name: "steady",
		Title: fmt.Sprintf("%s single-row updates a second for %v, 1,000 users with a socket each, events kept for %v: what the tables hold",
			text(o.rate, 0), o.steady, retention(o.steady)),
		Columns: append([]column{
			{"after", "after", 0},
			{"commits", "commits/s", 0},
			{"outbox", "outbox KB", 0},
			{"state", "state KB", 0},
			{"owner_head", "owner_head KB", 0},
			{"log", "log MB", 1},
			{"partitions", "partitions", 0},
			{"kept", "events kept", 0},
			{"waiting", "waiting", 0},
			{"dead_outbox", "dead: outbox", 0},
			{"dead_state", "state", 0},
			{"dead_owner_head", "owner_head", 0},
			{"p50", "p50 ms", 2},
			{"p99", "p99 ms", 2},
			{"rss", "gateway MB", 1},
		}, countColumns...),
		Rows: w.rows,
	}
	chart := chart{title: "Sizes under constant load", unit: "KB"}
	for _, r := range w.rows {
		chart.labels = append(chart.labels, text(r["after"], 0))
	}
	verdict := row{"after": "last quarter / second", "lost": lost, "twice": twice}
	grown := false
	for _, size := range judged {
		bars := series{name: size.name}
		for _, r := range w.rows {
			kilobytes, _ := r[size.key].(float64)
			bars.values = append(bars.values, kilobytes)
		}
		chart.series = append(chart.series, bars)
		second, last := w.quarters(o.steady, size.of)
		if second == 0 {
			continue
		}
		verdict[size.key] = ratio(last / second)
		grown = grown || last > steadyMost*second
	}
	t.add(verdict)
	t.Charts = append(t.Charts, chart)
	judgement := "they stay as they are"
	switch {
	case o.steady < steadyLeast:
		judgement = "too short to tell, since autovacuum looks once a minute: --steady 1h"
	case grown:
		judgement = "they grow"
	}
	t.Notes = []string{
		"Sizes with indexes. Rows, live (events kept) and dead, as pg_stat_user_tables estimates them. Partitions hold 500,000 events, are made two ahead, and are dropped whole.",
		"Medians of the last quarter against those of the second: " + judgement + ".",
	}
	return t
}
