package hub

import (
	"context"
	"math"
	"time"
)

// settleEvery is how often a session looks whether the hub has moved its feed to the log that it has read itself.
const settleEvery = 50 * time.Millisecond

// Reason says why a cursor could not be honoured. Its text is part of the wire protocol.
type Reason string

const (
	// ReasonTooOld means that an event after the cursor is not kept any more.
	ReasonTooOld Reason = "too_old"
	// ReasonOtherLog means that the cursor belongs to a log this database does not have (any more).
	ReasonOtherLog Reason = "other_log"
	// ReasonFuture means that the log has not come as far as the cursor.
	ReasonFuture Reason = "future"
)

// ErrReset is what Next and Resume return when a session's place is gone. Snapshot gives it a new one.
type ErrReset struct{ Reason Reason }

func (e *ErrReset) Error() string { return "the cursor cannot be honoured: " + string(e.Reason) }

// Resume places the session after a cursor. It returns *ErrReset if there is no such place, and any other error if
// that cannot be told now.
func (s *Session) Resume(ctx context.Context, after Cursor) error {
	if s.resumeFromFeed(after) {
		return nil
	}
	page, err := s.nextPage(ctx, after.Sequence)
	if err != nil {
		return err
	}
	s.learn(page.Log, page.Head)
	switch {
	case after.Log != page.Log:
		return s.lost(ReasonOtherLog)
	case after.Sequence > page.Head:
		return s.lost(ReasonFuture)
	case !page.follows(after.Sequence):
		return s.lost(ReasonTooOld)
	}
	if !s.place(page.Log, after.Sequence, page.Events, nil) {
		return s.lost(ReasonOtherLog)
	}
	return nil
}

// resumeFromFeed resumes without a read where the feed keeps all that is missing.
func (s *Session) resumeFromFeed(after Cursor) bool {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open || after.Log != f.log || after.Sequence > f.head {
		return false
	}
	if _, kept := f.after(after.Sequence); !kept && after.Sequence < f.head {
		return false
	}
	s.placed, s.cursor, s.page, s.skip, s.gone = true, after.Sequence, nil, nil, nil
	return true
}

// Snapshot places the session at this moment, and returns the owner's rows as they stand then, with the cursor to
// resume from once they have been received. Next hands out no event that the rows contain, and every one after.
// keys bounds the rows to those named, unless it is nil.
func (s *Session) Snapshot(ctx context.Context, keys []string) (Snapshot, Cursor, error) {
	for {
		snapshot, err := s.hub.log.Snapshot(ctx, s.feed.owner, keys)
		if err != nil {
			return Snapshot{}, Cursor{}, err
		}
		s.learn(snapshot.Log, snapshot.Head)
		var skip map[int64]struct{}
		if len(snapshot.Pending) > 0 {
			skip = make(map[int64]struct{}, len(snapshot.Pending))
			for _, id := range snapshot.Pending {
				skip[id] = struct{}{}
			}
		}
		if s.place(snapshot.Log, snapshot.Head, nil, skip) {
			return snapshot, Cursor{Log: snapshot.Log, Sequence: snapshot.Head}, nil
		}
		if err := s.settle(ctx); err != nil {
			return Snapshot{}, Cursor{}, err
		}
	}
}

// Live places the session at this moment, and returns the cursor of it.
func (s *Session) Live(ctx context.Context) (Cursor, error) {
	for {
		page, err := s.hub.log.Read(ctx, s.feed.owner, math.MaxInt64, 0)
		if err != nil {
			return Cursor{}, err
		}
		s.learn(page.Log, page.Head)
		if s.place(page.Log, page.Head, nil, nil) {
			return Cursor{Log: page.Log, Sequence: page.Head}, nil
		}
		if err := s.settle(ctx); err != nil {
			return Cursor{}, err
		}
	}
}

// settle waits a moment for the hub, which finds out whether the log that was read is the right one, or the feed's.
func (s *Session) settle(ctx context.Context) error {
	if !s.hub.isRunning() {
		return ErrClosed
	}
	return sleep(ctx, settleEvery)
}

// place gives the session its place, unless that is in another log than the feed's.
func (s *Session) place(log string, cursor Sequence, page []*Event, skip map[int64]struct{}) bool {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != log {
		return false
	}
	s.placed, s.cursor, s.page, s.skip, s.gone = true, cursor, page, skip, nil
	return true
}

func (s *Session) learn(log string, head Sequence) {
	s.hub.learned(s.feed, log, head, true)
}

// reset takes the session's place away. f.mu is held.
func (s *Session) reset(reason Reason) {
	s.placed, s.page, s.gone = false, nil, s.hub.reset(reason)
}

func (s *Session) lost(reason Reason) error { return s.hub.reset(reason) }
