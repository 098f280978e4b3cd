package hub

import (
	"slices"
	"sync"
	"time"
)

const (
	// recentMost is how many events a feed keeps for sessions that are a little behind. Who is further behind reads the log.
	recentMost = 64
	// pageSize is how many events one read of the log returns at the most.
	pageSize = 128
	// lingerFor is how long a feed outlives its last session, so that a page reload costs no subscription.
	lingerFor = 5 * time.Second
)

// feed is one owner on this replica: its sessions, and how far it is complete.
type feed struct {
	owner Owner
	// ready is closed when the subscription is confirmed, or has failed; err is set before.
	ready chan struct{}
	err   error

	refs   int         // sessions and those about to be; guarded by the shard's lock
	linger *time.Timer // runs while refs is 0; guarded by the shard's lock

	mu       sync.Mutex
	open     bool       // log and head are known; guarded by mu, as all below
	log      string     // name of the log that head counts in
	head     Sequence   // complete up to here
	want     Sequence   // the log is known to reach so far
	filling  bool       // a goroutine reads the log, to bring head to want
	closed   bool       // no session will come any more
	recent   []*Event   // the last events up to head, without a hole
	sessions []*Session // to be woken
	foreign  int        // events of another owner that were dropped and are not counted yet
}

func newFeed(owner Owner) *feed {
	return &feed{owner: owner, ready: make(chan struct{})}
}

// receive takes an event from the bus. It reports a duplicate, a hole that has to be filled, or that the event is of
// another log than the feed.
func (f *feed) receive(log string, event *Event) (duplicate, hole, other bool) {
	f.mu.Lock()
	switch {
	case !f.open:
		// The read that opens the feed may have been answered before this event was there.
		f.want = max(f.want, event.Sequence)
		f.mu.Unlock()
		return false, false, false
	case log != f.log:
		f.mu.Unlock()
		return false, false, true
	case event.Sequence <= f.head:
		f.mu.Unlock()
		return true, false, false
	case event.Sequence > f.head+1:
		f.want = max(f.want, event.Sequence)
		f.mu.Unlock()
		return false, true, false
	}
	f.append(event)
	f.wakeAndUnlock()
	return false, false, false
}

// learn takes what a read of the log says of the owner: its name and the owner's last sequence there. It reports
// whether the feed is behind and has to be filled, and whether the log is another one than the feed's: that, only the
// hub can settle, for all feeds. open says that the read was made after the subscription was confirmed: the feed may
// begin there, since what comes after comes by the bus.
func (f *feed) learn(log string, head Sequence, open bool) (behind, other bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open && !f.open {
		f.open, f.log, f.head = true, log, head
	}
	if f.open && log != f.log {
		return false, true
	}
	f.want = max(f.want, head)
	return f.open && f.want > f.head, false
}

// adopt moves an open feed to another log. Its sessions lose their places.
func (f *feed) adopt(log string, head Sequence) {
	f.mu.Lock()
	if !f.open || f.log == log {
		f.mu.Unlock()
		return
	}
	f.log, f.head, f.want, f.recent = log, head, head, nil
	for _, s := range f.sessions {
		s.reset(ReasonOtherLog)
	}
	f.wakeAndUnlock()
}

// needs returns where the next page has to begin and how far the log is known to reach, or ends the filling if nothing
// more is needed.
func (f *feed) needs() (after, want Sequence, done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.head >= f.want {
		f.filling = false
		return 0, 0, true
	}
	return f.head, f.want, false
}

// extend takes a page of the log that was read after a sequence, to reach want: what needs returned. It reports false if
// the page is of another log.
func (f *feed) extend(page Page, after, want Sequence) bool {
	f.mu.Lock()
	if page.Log != f.log {
		// The hub moves the feed to the other log. Until then there is nothing to wait for here.
		f.want = f.head
		f.mu.Unlock()
		return false
	}
	f.foreign += page.keep(f.owner, false)
	for _, event := range page.Events {
		if event.Sequence == f.head+1 {
			f.append(event)
		}
	}
	if f.head == after && page.Head > f.head {
		// What comes next is not kept any more. Sessions that need it find out when they read for themselves.
		f.head, f.recent = page.Head, nil
	}
	if f.head == after && f.want == want {
		f.want = f.head // nobody knows of such an event; but what the bus told of during the read is still wanted
	}
	f.want = max(f.want, page.Head)
	f.wakeAndUnlock()
	return true
}

// lacks returns how many events up to head the feed neither has nor knows of. One that is not open lacks nothing.
func (f *feed) lacks(head Sequence) Sequence {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open {
		return 0
	}
	return max(0, head-max(f.head, f.want))
}

// append adds the next event. f.mu is held.
func (f *feed) append(event *Event) {
	if len(f.recent) == 2*recentMost { // twice, so that the copying is paid for by as many appends
		f.recent = append(f.recent[:0], f.recent[recentMost:]...)
	}
	f.recent = append(f.recent, event)
	f.head = event.Sequence
	f.want = max(f.want, f.head)
}

// after returns the event that follows a sequence, if the feed keeps it. f.mu is held.
func (f *feed) after(sequence Sequence) (*Event, bool) {
	i := len(f.recent) - int(f.head-sequence)
	if f.head <= sequence || i < 0 || i >= len(f.recent) {
		return nil, false
	}
	return f.recent[i], true
}

// supersedes tells whether the feed keeps a later event that says all that this one says. f.mu is held.
func (f *feed) supersedes(event *Event) bool {
	for i := len(f.recent) - 1; i >= 0 && f.recent[i].Sequence > event.Sequence; i-- {
		if f.recent[i].Subject == event.Subject && f.recent[i].topic() == event.topic() {
			return true
		}
	}
	return false
}

// forget releases what no session needs any more.
func (f *feed) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.sessions, func(s *Session) bool { return s.cursor < f.head }) {
		f.recent = nil
	}
}

// wakeAndUnlock unlocks f.mu and then wakes the sessions: they take the lock themselves.
func (f *feed) wakeAndUnlock() {
	var few [8]*Session // most users have few: no allocation then
	sessions := append(few[:0], f.sessions...)
	f.mu.Unlock()
	for _, s := range sessions {
		s.wake()
	}
}

func (f *feed) add(s *Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = append(f.sessions, s)
}

func (f *feed) remove(s *Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.sessions, s); i >= 0 {
		f.sessions = slices.Delete(f.sessions, i, i+1)
	}
}
