package hub

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// unavailableAfter is how long watch has to be refused an answer before clients are told.
	unavailableAfter = time.Second
	// unansweredAfter is how long the log may answer nobody, sessions included, before clients are told, however that comes
	// about. The log is asked every beatEvery, so an answer that is due may be three seconds late: less would take a
	// database under a storm of clients for one that is gone.
	unansweredAfter = 4 * time.Second
	// overdueAfter is how long watch has to go without an answer in time, where others do get some, before clients are
	// told: a database that is slow is not gone, and to send clients away who come back soon makes it slower.
	overdueAfter = 15 * time.Second
	// refuseAfter is how long after clients were told of a log that answers nothing new ones are still let try. One that is
	// overwhelmed by those who come back at once is helped by their waiting; refused at once, they come again at once.
	refuseAfter = 10 * time.Second
	// guardEvery is how finely that is measured.
	guardEvery = 250 * time.Millisecond
	// answerLimit is how long the log may take to answer one question, with all that waits in line before it: in a storm
	// of clients that is longer than the answer takes. It only has to end some time.
	answerLimit = 10 * time.Second
)

// errUnanswered is why the log counts as unavailable where it says neither yes nor no.
var errUnanswered = fmt.Errorf("no answer for %s", unansweredAfter)

// errUnasked is what Ready returns until the log has been asked.
var errUnasked = errors.New("the log has not answered yet")

// OnAvailability has tell called when the log cannot be read any more, and when it can again: at the moments at which
// Ready changes its mind, in turn, by one goroutine. It is called before Run; tell must not block, or the next news
// are late.
func (h *Hub) OnAvailability(tell func(available bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell = tell
}

// Ready returns nil while sessions can be served, and else an error that wraps ErrUnavailable and says why. What
// sessions are told is what Ready says: it does not ask the log, but knows what became of the last questions. It does
// not block; its context is there for whoever calls it.
func (h *Hub) Ready(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.unavailable != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, h.unavailable)
	case !h.known:
		return fmt.Errorf("%w: %w", ErrUnavailable, errUnasked)
	}
	return nil
}

// IsAvailable reports whether the log can be read, as far as it was told by OnAvailability: true until it is known not
// to be. It does not block.
func (h *Hub) IsAvailable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unavailable == nil
}

// refuses says whether there is no point in letting a new session try.
func (h *Hub) refuses() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unavailable != nil && !time.Now().Before(h.refuseFrom)
}

// setAvailable notes that the log can be read, or why not, and has whoever asked for it be told of a change.
func (h *Hub) setAvailable(ctx context.Context, why error) {
	if ctx.Err() != nil {
		return // it is we who go
	}
	h.mu.Lock()
	before, now := h.unavailable, time.Now()
	h.unavailable, h.known = why, true
	silent := errors.Is(why, errUnanswered) || errors.Is(why, context.DeadlineExceeded)
	switch {
	case !silent:
		h.refuseFrom = now
	case before == nil:
		h.refuseFrom = now.Add(refuseAfter)
	}
	if why == nil {
		h.metrics.available.Set(1)
	} else {
		h.metrics.available.Set(0)
	}
	h.mu.Unlock()
	switch {
	case (before == nil) == (why == nil):
		return
	case why == nil:
		h.logger.InfoContext(ctx, "the log can be read again")
	default:
		h.logger.ErrorContext(ctx, "the log cannot be read; sessions stay, and new ones are refused", "err", why)
	}
	select {
	case h.news <- struct{}{}:
	default: // the herald has not seen the last change yet, and will see this one
	}
}

// guard finds the log unavailable when it has answered nobody for unansweredAfter, whatever watch is waiting for: a
// network that swallows packets gives no error, and no limit on any one question bounds how long several take.
//
// It counts its own ticks and does not look at the clock, so that a machine that stood still is not taken for a
// database that did.
func (h *Hub) guard(ctx context.Context) {
	ticker := time.NewTicker(guardEvery)
	defer ticker.Stop()
	seen, quiet := uint64(0), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if answers := h.answers.Load(); answers != seen {
			seen, quiet = answers, 0
			continue
		}
		if quiet++; quiet*int(guardEvery) >= int(unansweredAfter) {
			h.setAvailable(ctx, errUnanswered) // until watch has an answer
		}
	}
}

// herald tells whoever asked to be told. It is a goroutine of its own, so that one who takes long to be told keeps
// nobody from finding out more.
func (h *Hub) herald(ctx context.Context) {
	for told := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-h.news:
		}
		h.mu.Lock()
		available, tell := h.unavailable == nil, h.tell
		h.mu.Unlock()
		if available != told && tell != nil {
			tell(available)
		}
		told = available
	}
}

// impatient is a Log that answers each question within answerLimit, if only by an error, provided that the Log behind
// it minds its context. It counts the answers.
type impatient struct {
	log     Log
	answers *atomic.Uint64
}

// count counts an answer, unless it is an error.
func (l impatient) count(err error) {
	if err == nil {
		l.answers.Add(1)
	}
}

// Read implements Log.
func (l impatient) Read(ctx context.Context, owner Owner, after Sequence, limit int) (answer Page, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	answer, err = l.log.Read(ctx, owner, after, limit)
	l.count(err)
	return answer, err
}

// Newest implements Log.
func (l impatient) Newest(ctx context.Context, owner Owner, after Sequence, limit int) (answer Page, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	answer, err = l.log.Newest(ctx, owner, after, limit)
	l.count(err)
	return answer, err
}

// Snapshot implements Log.
func (l impatient) Snapshot(ctx context.Context, owner Owner, keys []string) (answer Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	answer, err = l.log.Snapshot(ctx, owner, keys)
	l.count(err)
	return answer, err
}

// Changes implements Log.
func (l impatient) Changes(ctx context.Context, after Position) (answer Heads, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	answer, err = l.log.Changes(ctx, after)
	l.count(err)
	return answer, err
}

// Heads implements Log.
func (l impatient) Heads(ctx context.Context, owners []Owner) (answer Heads, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	answer, err = l.log.Heads(ctx, owners)
	l.count(err)
	return answer, err
}
