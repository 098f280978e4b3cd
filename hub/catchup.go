package hub

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// pollEvery is how often the log is asked while the bus is down: half of it is what events then take longer.
	pollEvery = 250 * time.Millisecond
	// reconcileEvery is how often every feed is compared with the log, whatever the bus says.
	reconcileEvery = 15 * time.Second
	// headsMost is how many owners one query compares.
	headsMost = 5000
	// fillRetryMost is the longest pause between two tries to fill a feed.
	fillRetryMost = 2 * time.Second
)

// doubt asks the log, soon, what this replica has missed. It does not block: one doubt waiting covers the next.
func (h *Hub) doubt(cause string) {
	select {
	case h.doubts <- cause:
	default:
	}
}

// watch asks the log what is missing: when there is a doubt, at short intervals while the bus is down, and now and
// then in any case. It is the one place that moves the hub to another log.
func (h *Hub) watch(ctx context.Context) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	reconcile := time.NewTicker(reconcileEvery)
	defer reconcile.Stop()
	h.doubt("start")
	for {
		var cause string
		select {
		case <-ctx.Done():
			return
		case cause = <-h.doubts:
		case <-poll.C:
			if h.isUp() {
				continue
			}
			cause = "bus_down"
		case <-reconcile.C:
			cause = "reconcile"
		}
		if err := h.catchUp(ctx, cause); err != nil {
			h.failed(ctx, err)
			_ = sleep(ctx, pollEvery/2+rand.N(pollEvery))
			h.doubt("retry")
		}
	}
}

func (h *Hub) isUp() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

// catchUp asks the log which owners here have more than their feeds, and has those filled.
//
// The cheap question names our position. It is not asked where the position may be far behind (after a failure, when
// all that passed meanwhile would have to be read) or unknown; then every owner here is compared, as reconciliation
// does in any case.
func (h *Hub) catchUp(ctx context.Context, cause string) error {
	h.metrics.catchUps.WithLabelValues(cause).Inc()
	h.mu.Lock()
	name, position := h.name, h.position
	h.mu.Unlock()
	if name == "" || cause == "retry" || cause == "reconcile" || cause == "other_log" {
		return h.reconcile(ctx, cause == "reconcile")
	}
	heads, err := h.log.Changes(ctx, position)
	if err != nil {
		return err
	}
	if heads.Log != name {
		return h.reconcile(ctx, false)
	}
	for owner, head := range heads.Sequences {
		if f := h.lookup(owner); f != nil {
			h.learned(f, heads.Log, head, false)
		}
	}
	h.reached(heads)
	return nil
}

// reconcile compares every feed with the log. periodic says that nothing gave reason to doubt: then a feed that is
// behind, and stays so, shows a fault, and is counted.
func (h *Hub) reconcile(ctx context.Context, periodic bool) error {
	feeds := h.feeds()
	for first := true; first || len(feeds) > 0; first = false {
		some := feeds[:min(headsMost, len(feeds))]
		feeds = feeds[len(some):]
		owners := make([]Owner, len(some))
		before := make([]Sequence, len(some))
		for i, f := range some {
			owners[i], before[i] = f.owner, f.known()
		}
		heads, err := h.log.Heads(ctx, owners)
		if err != nil {
			return err
		}
		// The position is of the moment of this answer: what came after, to feeds compared before, came by the bus or
		// makes its own doubt, so only the first answer's may be believed.
		if first {
			h.reached(heads)
		}
		for i, f := range some {
			f.forget()
			head := heads.Sequences[owners[i]]
			f.adopt(heads.Log, head)
			if periodic && head > before[i] && head > f.known() {
				h.metrics.repairs.Inc()
				h.logger.WarnContext(ctx, "a feed was behind the log and nothing had told", "lacking", head-f.known())
			}
			h.learned(f, heads.Log, head, false)
		}
	}
	return nil
}

// reached notes what a read of the log says of the log itself.
func (h *Hub) reached(heads Heads) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.name != heads.Log {
		h.name, h.epoch, h.position = heads.Log, 0, heads.Position
	}
	h.position = max(h.position, heads.Position)
	h.metrics.position.Set(float64(h.position))
}

// learned tells a feed what a read of the log says of its owner; see feed.learn.
func (h *Hub) learned(f *feed, log string, head Sequence, open bool) {
	behind, other := f.learn(log, head, open)
	if other {
		h.doubt("other_log")
	}
	if behind {
		h.fill(f)
	}
}

// fill has a feed read the log until it is complete. It returns at once; one goroutine fills a feed.
func (h *Hub) fill(f *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.filling || f.closed || !f.open {
		return
	}
	f.filling = h.spawn(func(ctx context.Context) { h.fillNow(ctx, f) })
}

func (h *Hub) fillNow(ctx context.Context, f *feed) {
	retry := pollEvery
	for {
		head, done := f.needs()
		if done {
			return
		}
		page, err := h.log.Read(ctx, f.owner, head, pageSize)
		if err != nil {
			h.failed(ctx, err)
			if sleep(ctx, retry/2+rand.N(retry)) != nil {
				return
			}
			retry = min(2*retry, fillRetryMost)
			continue
		}
		if !f.extend(page) {
			h.doubt("other_log")
		}
	}
}
