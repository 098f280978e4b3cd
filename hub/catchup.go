package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// pollEvery is how often the log is asked while the bus is down: half of it is what events then take longer.
	pollEvery = 250 * time.Millisecond
	// silentAfter is how long the bus may bring no mark before the log is asked all the same: the leader sends one a second.
	silentAfter = 2 * time.Second
	// beatEvery is how often the log is asked at least, so that one that is gone is found also where nothing is missing.
	beatEvery = time.Second
	// beatLimit is how long that question may take.
	beatLimit = 2 * time.Second
	// reconcileEvery is how often every feed is compared with the log, whatever the bus says.
	reconcileEvery = 15 * time.Second
	// headsMost is how many owners one query compares.
	headsMost = 5000
	// fillRetryMost is the longest pause between two tries to fill a feed.
	fillRetryMost = 2 * time.Second
)

// doubt asks the log, soon, what this replica has missed. It does not block: one doubt waiting covers the next, and
// what the next has to ask beyond it is noted apart.
func (h *Hub) doubt(cause string) {
	switch cause {
	case "retry", "other_log":
		h.compare.Store(true)
	}
	select {
	case h.doubts <- cause:
	default:
	}
}

// watch asks the log what is missing: when there is a doubt, at short intervals while the bus is down or silent, and
// now and then in any case. It is the one place that moves the hub to another log, and that finds the log available.
// That it is not, guard finds too: watch may be waiting for an answer.
func (h *Hub) watch(ctx context.Context) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	reconcile := time.NewTicker(reconcileEvery)
	defer reconcile.Stop()
	h.doubt("start")
	var asked, failing time.Time // when the log was last asked; since when it fails, zero where it does not
	for {
		var cause string
		select {
		case <-ctx.Done():
			return
		case cause = <-h.doubts:
		case <-poll.C:
			if cause = h.silence(); cause == "" {
				if time.Since(asked) < beatEvery {
					continue
				}
				cause = "beat"
			}
		case <-reconcile.C:
			cause = "reconcile"
		}
		asked = time.Now()
		err := h.catchUp(ctx, cause)
		if err == nil {
			failing = time.Time{}
			h.setAvailable(ctx, nil)
			continue
		}
		h.failed(ctx, err)
		if failing.IsZero() {
			failing = asked // not when that came out
		}
		limit := unavailableAfter
		if errors.Is(err, context.DeadlineExceeded) {
			limit = overdueAfter
		}
		if time.Since(failing) >= limit {
			h.setAvailable(ctx, err)
		}
		if sleep(ctx, pollEvery/2+rand.N(pollEvery)) != nil {
			return
		}
		h.doubt("retry")
	}
}

// silence says why the bus cannot be relied upon now, or "".
func (h *Hub) silence() (cause string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.up:
		return "bus_down"
	case time.Since(h.marked) > silentAfter:
		return "silence"
	}
	return ""
}

// catchUp asks the log which owners here have more than their feeds, and has those filled.
//
// The cheap question names our position. It is not asked where the position may be far behind (after a failure, when
// all that passed meanwhile would have to be read), wrong or unknown; then every owner here is compared, as
// reconciliation does in any case.
func (h *Hub) catchUp(ctx context.Context, cause string) error {
	h.metrics.catchUps.WithLabelValues(cause).Inc()
	if cause == "beat" {
		_, err := h.heads(ctx, nil)
		return err
	}
	compare := h.compare.Swap(false)
	h.mu.Lock()
	name, position := h.name, h.position
	h.vouched = h.up // from here on: this position is asked about, whatever marks make of it meanwhile
	h.mu.Unlock()
	if name == "" || compare || cause == "reconcile" {
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
	h.reached(heads, position)
	return nil
}

// reconcile compares every feed with the log. periodic says that nothing gave reason to doubt: then a feed that lacks
// what marks have vouched for shows a fault, and is counted.
func (h *Hub) reconcile(ctx context.Context, periodic bool) error {
	// The log's name and position are asked for before the feeds are listed: one that is not on the list reads the log
	// later than this. And nothing of the log is refused any more when the feeds are compared.
	_, told := h.place()
	whole, err := h.heads(ctx, nil)
	if err != nil {
		return err
	}
	h.reached(whole, told)
	for some := range slices.Chunk(h.feeds(), headsMost) {
		owners := make([]Owner, len(some))
		for i, f := range some {
			owners[i] = f.owner
		}
		heads, err := h.heads(ctx, owners)
		if err != nil {
			return err
		}
		for i, f := range some {
			f.forget()
			head := heads.Sequences[owners[i]]
			f.adopt(heads.Log, head)
			if lacking := f.lacks(head); periodic && lacking > 0 && heads.Position <= told {
				h.metrics.repairs.Inc()
				h.logger.WarnContext(ctx, "a feed was behind the log and nothing had told", "lacking", lacking)
			}
			h.learned(f, heads.Log, head, false)
		}
	}
	return nil
}

// heads asks the log how far it is, and how far it is for some owners.
func (h *Hub) heads(ctx context.Context, owners []Owner) (Heads, error) {
	if len(owners) == 0 {
		// Nothing is cheaper, and this is what is asked first while the log does not answer. It is given up early, so that
		// a network that has come back is not waited for on a connection that has not.
		limited, cancel := context.WithTimeout(ctx, beatLimit)
		defer cancel()
		ctx, owners = limited, []Owner{}
	}
	return h.log.Heads(ctx, owners)
}

// reached notes what a read of the log says of the log itself, and what position the hub was at before it asked.
func (h *Hub) reached(heads Heads, told Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.name != heads.Log:
		h.name, h.epoch, h.position = heads.Log, 0, heads.Position
	case heads.Position < told:
		// A mark has claimed what the log never had. Believed, it would hide every gap until the log gets there.
		h.logger.Warn("the bus was ahead of the log", "position", told, "log", heads.Position)
		h.position = heads.Position
	default:
		h.position = max(h.position, heads.Position)
	}
	h.metrics.position.Set(float64(h.position))
}

// place returns the log's name, and the position in it, as the hub knows them.
func (h *Hub) place() (name string, position Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.name, h.position
}

// learned tells a feed what a read of the log says of its owner; see feed.learn.
func (h *Hub) learned(f *feed, log string, head Sequence, open bool) {
	behind, other := f.learn(log, head, open)
	if name, _ := h.place(); other || log != name {
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
		after, want, done := f.needs()
		if done {
			return
		}
		page, err := h.log.Read(ctx, f.owner, after, pageSize)
		if err != nil {
			h.failed(ctx, err)
			if sleep(ctx, retry/2+rand.N(retry)) != nil {
				return
			}
			retry = min(2*retry, fillRetryMost)
			continue
		}
		if !f.extend(page, after, want) {
			h.doubt("other_log")
		}
	}
}
