package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/reelay/reelay/hub"
)

var errAway = errors.New("the database is away")

// fakeLog is a hub.Log in memory, for one epoch and a leader that is the test.
type fakeLog struct {
	mu        sync.Mutex
	name      string
	position  hub.Position
	outboxID  int64
	owners    map[hub.Owner]*history
	failure   error // what every query fails with
	hangs     bool  // queries are answered when their context ends
	truncated bool
	snapshots [][]string    // the keys that snapshots were asked for
	held      chan struct{} // snapshots wait for it; nil: they do not
}

// history is what the log has of one owner.
type history struct {
	head    hub.Sequence
	trimmed hub.Sequence // events up to here are not kept
	events  []*hub.Event
	rows    []hub.Row // newest first
}

func newFakeLog() *fakeLog {
	return &fakeLog{name: "k3f9a2bq", owners: make(map[hub.Owner]*history)}
}

// of returns what there is of an owner. mu is held.
func (l *fakeLog) of(owner hub.Owner) *history {
	if l.owners[owner] == nil {
		l.owners[owner] = new(history)
	}
	return l.owners[owner]
}

// row puts a row into the table, without an event.
func (l *fakeLog) row(owner hub.Owner, key, data string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(owner)
	h.rows = slices.DeleteFunc(h.rows, func(r hub.Row) bool { return r.Key == key })
	h.rows = slices.Insert(h.rows, 0, hub.Row{Key: key, Data: json.RawMessage(data)})
}

// drop takes a row out of the table, without an event.
func (l *fakeLog) drop(owner hub.Owner, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(owner)
	h.rows = slices.DeleteFunc(h.rows, func(r hub.Row) bool { return r.Key == key })
}

// append adds events of an owner and returns them as the batch to publish.
func (l *fakeLog) append(events ...*hub.Event) hub.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := hub.Batch{Log: l.name, Epoch: 1, From: l.position}
	for _, e := range events {
		h := l.of(e.Owner)
		h.head++
		l.position++
		l.outboxID++
		e.Position, e.Sequence, e.OutboxID = l.position, h.head, l.outboxID
		h.events = append(h.events, e)
		batch.Events = append(batch.Events, e)
	}
	batch.Head = l.position
	return batch
}

// trim drops the first events of an owner, up to a sequence.
func (l *fakeLog) trim(owner hub.Owner, upTo hub.Sequence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(owner)
	h.events, h.trimmed = h.events[upTo-h.trimmed:], upTo
}

// rename makes it the log of another database, which has the rows and none of the events.
func (l *fakeLog) rename(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.name, l.position = name, 0
	for _, h := range l.owners {
		h.head, h.trimmed, h.events = 0, 0, nil
	}
}

// fail makes every query fail, until it is called with nil.
func (l *fakeLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
}

// hang makes every query take until its context ends.
func (l *fakeLog) hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangs = true
}

// hold keeps snapshots waiting until release is called.
func (l *fakeLog) hold() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	l.held = held
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = nil
		close(held)
	}
}

// truncate makes snapshots say that there is more.
func (l *fakeLog) truncate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.truncated = true
}

// asked returns the keys of all snapshots since the last call.
func (l *fakeLog) asked() [][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.snapshots
	l.snapshots = nil
	return asked
}

// answer begins each query.
func (l *fakeLog) answer(ctx context.Context) error {
	l.mu.Lock()
	failure, hangs := l.failure, l.hangs
	l.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return failure
}

func (l *fakeLog) Read(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (hub.Page, error) {
	if err := l.answer(ctx); err != nil {
		return hub.Page{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(owner)
	page := hub.Page{Log: l.name, Head: h.head}
	first := max(after, h.trimmed)
	if first < h.head {
		page.First = first + 1
	}
	for s := first; s < h.head && len(page.Events) < limit; s++ {
		page.Events = append(page.Events, clone(h.events[s-h.trimmed]))
	}
	return page, nil
}

// Newest knows of one topic only: the row.
func (l *fakeLog) Newest(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (hub.Page, error) {
	page, err := l.Read(ctx, owner, after, int(^uint(0)>>1))
	last := make(map[string]hub.Sequence)
	for _, e := range page.Events {
		last[e.Subject] = e.Sequence
	}
	page.Events = slices.DeleteFunc(page.Events, func(e *hub.Event) bool { return last[e.Subject] != e.Sequence })
	page.Events = page.Events[:min(limit, len(page.Events))]
	return page, err
}

func (l *fakeLog) Snapshot(ctx context.Context, owner hub.Owner, keys []string) (hub.Snapshot, error) {
	if err := l.answer(ctx); err != nil {
		return hub.Snapshot{}, err
	}
	l.mu.Lock()
	l.snapshots = append(l.snapshots, slices.Clone(keys))
	held := l.held
	h := l.of(owner)
	snapshot := hub.Snapshot{Log: l.name, Head: h.head, Truncated: l.truncated}
	for _, r := range h.rows {
		if keys == nil || slices.Contains(keys, r.Key) {
			snapshot.Rows = append(snapshot.Rows, r)
		}
	}
	l.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return hub.Snapshot{}, ctx.Err()
		}
	}
	return snapshot, nil
}

func (l *fakeLog) Changes(ctx context.Context, after hub.Position) (hub.Heads, error) {
	heads, err := l.Heads(ctx, nil)
	if err != nil {
		return hub.Heads{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for owner, h := range l.owners {
		if n := len(h.events); n > 0 && h.events[n-1].Position > after {
			heads.Sequences[owner] = h.head
		}
	}
	return heads, nil
}

func (l *fakeLog) Heads(ctx context.Context, owners []hub.Owner) (hub.Heads, error) {
	if err := l.answer(ctx); err != nil {
		return hub.Heads{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	heads := hub.Heads{Log: l.name, Position: l.position, Sequences: make(map[hub.Owner]hub.Sequence)}
	for _, owner := range owners {
		if h := l.owners[owner]; h != nil && h.head > 0 {
			heads.Sequences[owner] = h.head
		}
	}
	return heads, nil
}

// clone returns an event of its own: one that is read twice is not the same in memory.
func clone(e *hub.Event) *hub.Event {
	return &hub.Event{
		Position: e.Position, Owner: e.Owner, Sequence: e.Sequence, OutboxID: e.OutboxID,
		Type: e.Type, Subject: e.Subject, Data: e.Data, Time: e.Time,
	}
}

// updated returns an update of a video, as an event that has no number yet.
func updated(owner hub.Owner, video, data string) *hub.Event {
	return &hub.Event{Owner: owner, Type: "video.updated", Subject: video, Data: json.RawMessage(data), Time: time.Now()}
}
