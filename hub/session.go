package hub

import (
	"context"
	"errors"
	"math"
	"time"
)

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

// ErrUnavailable is returned by Attach while the log cannot be read.
var ErrUnavailable = errors.New("the log cannot be read for now")

// ErrClosed is returned for a session or a hub that has ended.
var ErrClosed = errors.New("closed")

const (
	// retryRead is how long a session waits after a read of the log failed.
	retryRead = 500 * time.Millisecond
	// settleEvery is how often a session looks whether the hub has moved its feed to the log that it has read itself.
	settleEvery = 50 * time.Millisecond
)

// Session is one client's cursor over its owner's events. It has no place in them at first: Resume, Snapshot or Live
// gives it one, and from then on Next hands out what comes after.
type Session struct {
	hub  *Hub
	feed *feed
	wake func()
	// conflate: of what it is behind by, the session wants the last event of each subject alone.
	conflate bool

	// All below is guarded by feed.mu.
	placed  bool
	cursor  Sequence           // everything up to it was handed out, or is none of this session's
	page    []*Event           // read from the log for this session alone; begins after cursor
	reading bool               // a goroutine reads the next page
	skip    map[int64]struct{} // outbox ids of events that the snapshot contains
	filter  map[string]struct{}
	gone    *ErrReset
	closed  bool
}

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

// Lookup returns those of keys that are rows of this session's owner now. It does not move the session.
func (s *Session) Lookup(ctx context.Context, keys []string) (map[string]struct{}, error) {
	snapshot, err := s.hub.log.Snapshot(ctx, s.feed.owner, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[string]struct{}, len(snapshot.Rows))
	for _, row := range snapshot.Rows {
		found[row.Key] = struct{}{}
	}
	return found, nil
}

// Filter bounds the session to events of these subjects, from the next event on; nil lifts the bound. The session
// takes the map over.
func (s *Session) Filter(subjects map[string]struct{}) {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.filter = subjects
}

// Next returns the event after the last one and the cursor that stands behind it, or nil if there is none for now: wake
// is called when that has changed. It does not block. It returns *ErrReset when the session has lost its place,
// and ErrClosed after Close.
func (s *Session) Next() (*Event, Cursor, error) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case s.closed:
			return nil, Cursor{}, ErrClosed
		case s.gone != nil:
			return nil, Cursor{}, s.gone
		case !s.placed:
			return nil, Cursor{}, nil
		}
		event := s.take()
		if event == nil {
			return nil, Cursor{}, nil
		}
		s.cursor = event.Sequence
		if s.wants(event) {
			s.hub.metrics.delivered.Inc()
			return event, Cursor{Log: f.log, Sequence: event.Sequence}, nil
		}
	}
}

// take finds the event after the cursor, or begins to read it. f.mu is held.
func (s *Session) take() *Event {
	for len(s.page) > 0 {
		event := s.page[0]
		s.page = s.page[1:]
		if event.Sequence > s.cursor {
			return event
		}
	}
	s.page = nil
	if s.cursor >= s.feed.head {
		return nil
	}
	if event, kept := s.feed.after(s.cursor); kept {
		if s.conflate && s.feed.supersedes(event) {
			s.cursor = event.Sequence
			return s.take()
		}
		return event
	}
	if !s.reading {
		s.reading = s.hub.spawn(s.read)
	}
	return nil
}

// wants tells whether the event is for this session. f.mu is held.
func (s *Session) wants(event *Event) bool {
	if _, contained := s.skip[event.OutboxID]; contained {
		if delete(s.skip, event.OutboxID); len(s.skip) == 0 {
			s.skip = nil
		}
		return false
	}
	if s.filter == nil {
		return true
	}
	_, wanted := s.filter[event.Subject]
	return wanted
}

// read reads the next page of the log for this session.
func (s *Session) read(ctx context.Context) {
	f := s.feed
	f.mu.Lock()
	cursor, log := s.cursor, f.log
	f.mu.Unlock()
	page, err := s.nextPage(ctx, cursor)
	if err != nil {
		s.hub.failed(ctx, err)
	} else {
		s.hub.learned(f, page.Log, page.Head, false)
	}
	if err != nil || page.Head <= cursor || page.Log != log {
		_ = sleep(ctx, retryRead) // a database that is away, or behind what it has said before, or another one
	}
	f.mu.Lock()
	s.reading = false
	switch {
	case s.closed || err != nil || s.cursor != cursor || f.log != log || page.Log != log:
		// The session was placed anew meanwhile, or asks again when it is woken. That its log is gone it hears from the
		// hub, which moves the feed first: so Snapshot finds a feed to be placed in.
	case !page.follows(cursor):
		s.reset(ReasonTooOld)
	default:
		s.page = page.Events
	}
	closed := s.closed
	f.mu.Unlock()
	if !closed {
		s.wake()
	}
}

// nextPage reads the page after a sequence, as this session wants it.
func (s *Session) nextPage(ctx context.Context, after Sequence) (Page, error) {
	if s.conflate {
		return s.hub.log.Newest(ctx, s.feed.owner, after, pageSize)
	}
	return s.hub.log.Read(ctx, s.feed.owner, after, pageSize)
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

// Close detaches the session. A call of wake that is under way may still end after it.
func (s *Session) Close() {
	s.feed.mu.Lock()
	again := s.closed
	s.closed, s.page = true, nil
	s.feed.mu.Unlock()
	if !again {
		s.feed.remove(s)
		s.hub.release(s.feed)
		s.hub.metrics.sessions.Dec()
	}
}
