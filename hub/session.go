package hub

import (
	"context"
	"errors"
	"time"
)

// ErrUnavailable is returned by Attach while the log cannot be read.
var ErrUnavailable = errors.New("the log cannot be read for now")

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
	event, err := s.next()
	cursor, foreign := Cursor{}, f.foreign
	if event != nil {
		cursor = Cursor{Log: f.log, Sequence: event.Sequence}
	}
	f.foreign = 0
	f.mu.Unlock()
	s.hub.foreign(foreign)
	return event, cursor, err
}

// next is Next. f.mu is held.
func (s *Session) next() (*Event, error) {
	f := s.feed
	for {
		switch {
		case s.closed:
			return nil, ErrClosed
		case s.gone != nil:
			return nil, s.gone
		case !s.placed:
			return nil, nil
		}
		event := s.take()
		if event == nil {
			return nil, nil
		}
		s.cursor = event.Sequence
		if event.Owner != f.owner { // the last line: whatever happened to it on its way, this is not for this client
			f.foreign++
			continue
		}
		if s.wants(event) {
			s.hub.metrics.delivered.Inc()
			return event, nil
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
func (s *Session) nextPage(ctx context.Context, after Sequence) (page Page, err error) {
	if s.conflate {
		page, err = s.hub.log.Newest(ctx, s.feed.owner, after, pageSize)
	} else {
		page, err = s.hub.log.Read(ctx, s.feed.owner, after, pageSize)
	}
	s.hub.foreign(page.keep(s.feed.owner, s.conflate))
	return page, err
}

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
