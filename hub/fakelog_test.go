package hub_test

import (
	"context"
	"slices"
	"sync"

	"github.com/reelay/reelay/hub"
)

// fakeLog is a Log in memory. It takes its answers at once, as a statement takes its snapshot, and can hold them back
// afterwards: an answer that is old when it arrives is what a reader has to cope with.
type fakeLog struct {
	mu       sync.Mutex
	name     string
	position hub.Position
	lastID   int64
	outbox   []*hub.Event // committed, without a position
	owners   map[hub.Owner]*history
	failure  error                       // what every query fails with
	hanging  bool                        // a query that is asked now is never answered
	queries  map[string]int              // how many were asked, by kind
	failing  map[string]int              // by kind: the number of the first query that fails; 0: none
	holds    map[string][]chan struct{}  // by kind: its answers wait for all of these
	next     map[string]chan struct{}    // by kind: the next answer waits for this
	onAnswer func(context.Context) error // delays every answer; nil: none is delayed
	asking   int                         // queries that have no answer yet
	before   map[int64][]hub.Row         // an owner's rows before an event, by outbox id
}

// history is what the log has of one owner.
type history struct {
	head    hub.Sequence
	trimmed hub.Sequence // nothing up to here is kept
	events  []*hub.Event
	rows    []hub.Row // newest first
}

func newFakeLog() *fakeLog {
	return &fakeLog{
		name: "first", owners: make(map[hub.Owner]*history), failing: make(map[string]int), next: make(map[string]chan struct{}),
		queries: make(map[string]int), holds: make(map[string][]chan struct{}), before: make(map[int64][]hub.Row),
	}
}

// history returns what there is of an owner. mu is held.
func (l *fakeLog) history(owner hub.Owner) *history {
	if l.owners[owner] == nil {
		l.owners[owner] = new(history)
	}
	return l.owners[owner]
}

// commit changes a row, as a writer does: the row is changed and the event is in the outbox. Data of nil deletes it.
func (l *fakeLog) commit(owner hub.Owner, subject string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastID++
	kind := "video.updated"
	h := l.history(owner)
	l.before[l.lastID] = h.rows
	h.rows = slices.DeleteFunc(slices.Clone(h.rows), func(r hub.Row) bool { return r.Key == subject })
	if data == nil {
		kind = "video.deleted"
	} else {
		h.rows = slices.Insert(h.rows, 0, hub.Row{Key: subject, Data: data})
	}
	l.outbox = append(l.outbox, &hub.Event{Owner: owner, OutboxID: l.lastID, Type: kind, Subject: subject, Data: data})
}

// emit commits an event that changes no row.
func (l *fakeLog) emit(owner hub.Owner, subject, kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastID++
	l.before[l.lastID] = l.history(owner).rows
	l.outbox = append(l.outbox, &hub.Event{Owner: owner, OutboxID: l.lastID, Type: kind, Subject: subject})
}

// number gives positions to what is in the outbox, as the leader does, and returns it as the batch to publish.
func (l *fakeLog) number(epoch hub.Epoch) hub.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := hub.Batch{Log: l.name, Epoch: epoch, From: l.position}
	for _, event := range l.outbox {
		h := l.history(event.Owner)
		h.head++
		l.position++
		event.Position, event.Sequence = l.position, h.head
		h.events = append(h.events, event)
		batch.Events = append(batch.Events, clone(event))
	}
	l.outbox, batch.Head = nil, l.position
	return batch
}

// append commits one event of owner and numbers it.
func (l *fakeLog) append(owner hub.Owner, subject string) hub.Batch {
	l.commit(owner, subject, []byte(`{}`))
	return l.number(1)
}

// trim drops all events up to a position.
func (l *fakeLog) trim(upTo hub.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.owners {
		for len(h.events) > 0 && h.events[0].Position <= upTo {
			h.trimmed, h.events = h.events[0].Sequence, h.events[1:]
		}
	}
}

// rename makes it a log of another name that lacks the last events, and what is not numbered yet: a standby that was
// promoted before it had them.
func (l *fakeLog) rename(name string, lacking hub.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.name, l.position = name, l.position-lacking
	for i := len(l.outbox) - 1; i >= 0 && lacking > 0; i-- {
		l.undo(l.outbox[i])
		l.outbox = l.outbox[:i]
	}
	for _, h := range l.owners {
		for n := len(h.events) - 1; n >= 0 && h.events[n].Position > l.position; n-- {
			l.undo(h.events[n])
			h.events, h.head = h.events[:n], h.events[n].Sequence-1
		}
	}
}

func (l *fakeLog) undo(event *hub.Event) { l.history(event.Owner).rows = l.before[event.OutboxID] }

// fail makes every query fail, until it is called with nil.
func (l *fakeLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
}

// hang makes a black hole of the log, or ends that: who asks meanwhile waits until its context ends, also when it has
// ended, as on a connection that has died without a word.
func (l *fakeLog) hang(hanging bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hanging = hanging
}

// failFrom makes queries of one kind fail from the nth of all on; 0 ends it.
func (l *fakeLog) failFrom(kind string, nth int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing[kind] = nth
}

// holdNext keeps back the answer to the next query of a kind, as hold does.
func (l *fakeLog) holdNext(kind string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.next[kind] = held
	return sync.OnceFunc(func() { close(held) })
}

// hold keeps back the answers to one kind of query until it is released. They are taken when they are asked for; but
// where the kind begins with "ask ", they are taken when they are released.
func (l *fakeLog) hold(kind string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.holds[kind] = append(l.holds[kind], held)
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.holds[kind] = slices.DeleteFunc(l.holds[kind], func(c chan struct{}) bool { return c == held })
		close(held)
	})
}

// asked returns how many queries of the kinds there have been.
func (l *fakeLog) asked(kinds ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range kinds {
		n += l.queries[kind]
	}
	return n
}
