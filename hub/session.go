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

// ErrClosed is returned for a session or a hub that has ended.
var ErrClosed = errors.New("closed")

// retryRead is how long a session waits after a read of the log failed.
const retryRead = 500 * time.Millisecond

// Session is one client's cursor over its owner's events. It has no place in them at first: Resume, Snapshot or Live
// gives it one, and from then on Next hands out what comes after.
type Session struct {
	hub  *Hub
	feed *feed
	wake func()

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
	page, err := s.hub.log.Read(ctx, s.feed.owner, after.Sequence, pageSize)
	if err != nil {
		return err
	}
	s.learn(page.Log, page.Head)
	switch {
	case after.Log != page.Log:
		return s.lost(ReasonOtherLog)
	case after.Sequence > page.Head:
		return s.lost(ReasonFuture)
	case after.Sequence < page.Head && (len(page.Events) == 0 || page.Events[0].Sequence != after.Sequence+1):
		return s.lost(ReasonTooOld)
	}
	return s.place(page.Log, after.Sequence, page.Events, nil)
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
	if err := s.place(snapshot.Log, snapshot.Head, nil, skip); err != nil {
		return Snapshot{}, Cursor{}, err
	}
	return snapshot, Cursor{Log: snapshot.Log, Sequence: snapshot.Head}, nil
}

// Live places the session at this moment, and returns the cursor of it.
func (s *Session) Live(ctx context.Context) (Cursor, error) {
	page, err := s.hub.log.Read(ctx, s.feed.owner, math.MaxInt64, 0)
	if err != nil {
		return Cursor{}, err
	}
	s.learn(page.Log, page.Head)
	return Cursor{Log: page.Log, Sequence: page.Head}, s.place(page.Log, page.Head, nil, nil)
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
	page, err := s.hub.log.Read(ctx, f.owner, cursor, pageSize)
	if err != nil {
		s.hub.failed(ctx, err)
		_ = sleep(ctx, retryRead)
	}
	f.mu.Lock()
	s.reading = false
	switch {
	case err != nil || s.cursor != cursor || f.log != log:
		// The session was placed anew meanwhile, or asks again when it is woken.
	case page.Log != log:
		s.reset(ReasonOtherLog)
	case len(page.Events) == 0 || page.Events[0].Sequence != cursor+1:
		s.reset(ReasonTooOld)
	default:
		s.page = page.Events
	}
	f.mu.Unlock()
	s.wake()
}

// place gives the session its place, unless the log became another one meanwhile.
func (s *Session) place(log string, cursor Sequence, page []*Event, skip map[int64]struct{}) error {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != log {
		return &ErrReset{Reason: ReasonOtherLog}
	}
	s.placed, s.cursor, s.page, s.skip, s.gone = true, cursor, page, skip, nil
	return nil
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
