package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// stamps is how many commits may be under way for their latency to be known: more than a minute's.
const stamps = 1 << 17

// watch looks at a system under load.
type watch struct {
	stack *stack
	crowd *crowd
	taken []glance
	rows  []row

	begun [stamps]struct{ number, at atomic.Int64 } // by the commit's number; at is in nanoseconds
	mu    sync.Mutex
	took  []float64 // guarded by mu; milliseconds of the events since the last row
}

// glance is what was seen at one moment. Sizes are in bytes, with indexes.
type glance struct {
	at                              time.Duration
	outbox, state, heads, log       float64
	partitions, kept, waiting       int
	deadOutbox, deadState, deadHead int
	resident                        float64 // 0 where it is not known
	delivered                       int64   // since the beginning
}

// begin notes when a commit begins.
func (w *watch) begin(c commit) bool {
	stamp := &w.begun[c.number%stamps]
	stamp.at.Store(time.Now().UnixNano())
	stamp.number.Store(c.number)
	return true
}

// arrive notes how long an event took.
func (w *watch) arrive(e event, at time.Time) {
	stamp := &w.begun[e.number%stamps]
	if stamp.number.Load() != e.number {
		return // it took too long to be known
	}
	took := milliseconds(time.Duration(at.UnixNano() - stamp.at.Load()))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = append(w.took, took)
}

// look looks once.
func (w *watch) look(ctx context.Context, at time.Duration) error {
	s := glance{at: at, delivered: w.crowd.delivered.Load()}
	err := w.stack.db.QueryRowContext(ctx, `
		WITH stats AS (
			SELECT relname, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables WHERE schemaname = 'reelay'
		), partitions AS (
			SELECT c.relname, pg_total_relation_size(c.oid) AS bytes FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = 'reelay.log'::regclass
		)
		SELECT pg_total_relation_size('reelay.outbox'), pg_total_relation_size('reelay.state'), pg_total_relation_size('reelay.owner_head'),
			coalesce(sum(bytes), 0), count(*),
			(SELECT coalesce(sum(live), 0) FROM stats JOIN partitions USING (relname)), (SELECT count(*) FROM reelay.outbox),
			(SELECT dead FROM stats WHERE relname = 'outbox'), (SELECT dead FROM stats WHERE relname = 'state'),
			(SELECT dead FROM stats WHERE relname = 'owner_head')
		FROM partitions`).Scan(&s.outbox, &s.state, &s.heads, &s.log, &s.partitions, &s.kept, &s.waiting, &s.deadOutbox, &s.deadState, &s.deadHead)
	if err != nil {
		return fmt.Errorf("look at the tables: %w", err)
	}
	s.resident, _ = w.stack.gateways[0].metric(ctx, "process_resident_memory_bytes") // a gateway that is gone shows at its clients
	w.taken = append(w.taken, s)
	return nil
}

// time says when it was.
func (s glance) time() string {
	if s.at < 2*time.Minute {
		return s.at.Round(time.Second / 10).String()
	}
	return s.at.Round(time.Second).String()
}

// entry adds a row for a glance, and for what came since the row before.
func (w *watch) entry(s glance) {
	w.mu.Lock()
	took := w.took
	w.took = nil
	w.mu.Unlock()
	const kilo, mega = 1 << 10, 1 << 20
	r := row{
		"after": s.time(), "outbox": s.outbox / kilo, "state": s.state / kilo, "owner_head": s.heads / kilo, "log": s.log / mega,
		"partitions": s.partitions, "kept": s.kept, "waiting": s.waiting,
		"dead_outbox": s.deadOutbox, "dead_state": s.deadState, "dead_owner_head": s.deadHead,
		"rss": known(quantity{s.resident / mega}),
	}
	if len(w.rows) > 0 {
		before := w.taken[len(w.taken)-1-steadyEach]
		r["commits"] = float64(s.delivered-before.delivered) / (s.at - before.at).Seconds()
	}
	if len(w.rows) > 0 && len(took) > 0 {
		r["p50"], r["p99"] = quantile(took, 0.5), quantile(took, 0.99)
	}
	w.rows = append(w.rows, r)
}
