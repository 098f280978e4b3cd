package main

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"
)

const (
	// behindMost is how long after the last commit its event may come for a rate to count as sustained.
	behindMost = 250 * time.Millisecond
	// tries is how often a lower rate is tried until one is sustained.
	tries = 6
	// backOff is how much lower it is each time.
	backOff = 0.85
)

// timing is a listener at work.
type timing struct {
	stack  *stack
	ledger *ledger
	crowd  *crowd // nil for a bare LISTEN
	now    atomic.Pointer[round]
	again  atomic.Int64 // notifications of what had come already
	stop   []func(context.Context) error
	// after is called after each commit, and makes its event arrive; nil where the database sees to that.
	after func(c commit) error
}

// round is a while of writing at one rate. Commits have consecutive numbers, of which the first is base + 1.
type round struct {
	zero    time.Time
	base    int64
	begun   []atomic.Int64 // nanoseconds since zero: before the commit with that number
	arrived []atomic.Int64 // at the client; 0 if it has not
	count   atomic.Int64

	commits     int64
	writing     time.Duration // until the last commit
	behind      time.Duration // from the last commit to the last arrival
	lost, twice int
}

// arrive is called when a client has got the event of the commit with a number.
func (m *timing) arrive(number int64, at time.Time) {
	r := m.now.Load()
	if r == nil || number <= r.base || number > r.base+int64(len(r.arrived)) {
		return // of a round before, whose time was up: counted as lost there
	}
	if r.arrived[number-r.base-1].CompareAndSwap(0, int64(at.Sub(r.zero))) {
		r.count.Add(1)
	} else {
		m.again.Add(1)
	}
}

// round writes at a rate (0: as fast as the connections can) and waits for what is under way.
func (m *timing) round(ctx context.Context, d time.Duration, perSecond float64) (*round, error) {
	most := int(perSecond*d.Seconds()) + singleWriters
	if perSecond == 0 {
		most = int(50_000 * d.Seconds()) // nobody commits as many
	}
	r := &round{zero: time.Now(), begun: make([]atomic.Int64, most), arrived: make([]atomic.Int64, most)}
	lostBefore, twiceBefore, err := m.wrong()
	if err != nil {
		return nil, err
	}
	writers := load{
		url: m.stack.url(), ledger: m.ledger, writers: singleWriters, pick: oneRow(m.ledger), perSecond: perSecond, after: m.after,
		begin: func(c commit) bool {
			i := c.number - r.base - 1
			if i < int64(len(r.begun)) {
				r.begun[i].Store(int64(time.Since(r.zero)))
			}
			return i < int64(len(r.begun))
		},
	}
	defer writers.close(ctx)
	m.now.Store(nil)
	if err := writers.warm(ctx); err != nil {
		return nil, err
	}
	if m.crowd != nil && lostBefore == 0 { // what was lost once would be waited for again and again
		if err := m.crowd.settle(ctx); err != nil {
			return nil, err
		}
	}
	r.base = m.ledger.number.Load()
	m.now.Store(r)
	if r.commits, r.writing, err = writers.run(ctx, d); err != nil {
		return nil, err
	}
	written := time.Now()
	for deadline := time.Now().Add(settleLimit); r.count.Load() < r.commits && ctx.Err() == nil && time.Now().Before(deadline); {
		pause(ctx, time.Millisecond)
	}
	r.behind = time.Since(written)
	lost, twice, err := m.wrong()
	r.lost, r.twice = max(lost-lostBefore, int(r.commits-r.count.Load())), twice-twiceBefore
	return r, errors.Join(err, ctx.Err())
}

func (m *timing) wrong() (lost, twice int, err error) {
	if m.crowd == nil {
		return 0, int(m.again.Load()), nil
	}
	select {
	case err := <-m.crowd.failed:
		return 0, 0, err
	default:
		return m.crowd.wrong()
	}
}

// sustained looks for the highest rate at which events keep up with commits, and returns the round at that rate.
func (m *timing) sustained(ctx context.Context, d time.Duration) (*round, error) {
	r, err := m.round(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	// All that arrived, in all the time it took.
	possible := float64(r.commits) / (r.writing + max(0, r.behind-behindMost)).Seconds()
	lost, twice := r.lost, r.twice
	for range tries {
		r, err = m.round(ctx, d, math.Floor(0.95*possible))
		if err != nil {
			return nil, err
		}
		lost, twice = lost+r.lost, twice+r.twice
		if r.behind <= behindMost || lost > 0 {
			break
		}
		possible *= backOff
	}
	r.lost, r.twice = lost, twice
	return r, nil
}

// took returns how long each event took that arrived, in milliseconds.
func (r *round) took() []float64 {
	var all []float64
	for i := range r.arrived {
		if at := r.arrived[i].Load(); at > 0 {
			all = append(all, milliseconds(time.Duration(at-r.begun[i].Load())))
		}
	}
	return all
}

// end undoes, in reverse, what was set up.
func (m *timing) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var errs []error
	for i := range m.stop {
		errs = append(errs, m.stop[len(m.stop)-1-i](ctx))
	}
	return errors.Join(errs...)
}
