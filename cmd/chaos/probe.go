package main

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"
)

const (
	// probeUser owns the events that measure. No video is ever theirs.
	probeUser = "probe"
	// probeEvery is how often one is committed, and so how finely recovery is measured.
	probeEvery = 20 * time.Millisecond
)

// prober commits a small event every few milliseconds, and remembers when it began each. Sessions of the same user note
// when each came.
type prober struct {
	db   *sql.DB
	gate sync.RWMutex // as in writers

	mu    sync.Mutex
	begun []time.Time     // of number n at n-1; guarded by mu, as all below
	took  []time.Duration // to be committed; 0 for what was not
}

// run commits until ctx ends.
func (p *prober) run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.gate.RLock()
		p.commit(ctx)
		p.gate.RUnlock()
	}
}

func (p *prober) commit(ctx context.Context) {
	p.mu.Lock()
	begun := time.Now()
	p.begun, p.took = append(p.begun, begun), append(p.took, 0)
	number := len(p.begun)
	p.mu.Unlock()
	// One subject for all, so that the comparison sees their order. An error is an outage, or a mistake that shows when
	// nothing ever comes.
	if _, err := p.db.ExecContext(ctx, "SELECT tell($1, 'probe', $2, $3)", probeUser, probeType, number); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took[number-1] = time.Since(begun)
}

// slowest returns the longest that a commit took of those begun at a moment or after it.
func (p *prober) slowest(from time.Time) time.Duration {
	first := p.since(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := time.Duration(0)
	for _, took := range p.took[first-1:] {
		longest = max(longest, took)
	}
	return longest
}

// since returns the number of the first probe that was begun at a moment or after it; of the next one, if there is none.
func (p *prober) since(moment time.Time) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, _ := slices.BinarySearchFunc(p.begun, moment, func(begun, moment time.Time) int { return begun.Compare(moment) })
	return int64(at + 1)
}

// latencies returns how long the probes took that a watcher received after a moment, from before their commit.
func (p *prober) latencies(w *watcher, from time.Time) []time.Duration {
	some := w.arrivalsSince(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]time.Duration, len(some))
	for i, a := range some {
		all[i] = a.at.Sub(p.begun[a.number-1])
	}
	return all
}

// quantile returns the value that so many of the durations do not exceed; 0 if there are none.
func quantile(durations []time.Duration, q float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
