package hub_test

import (
	"context"
	"errors"
	"maps"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/hub"
)

// follower is a client of the model, on one device for ever: it attaches, is placed, takes events, goes away and comes
// back with its cursor. It checks every event it is handed.
type follower struct {
	m       *model
	owner   hub.Owner
	options hub.Options

	c         *client      // nil while it is away
	attaching chan placing // not nil while it attaches or is placed
	placed    bool

	cursor    hub.Cursor         // as it would show it when it comes back
	rows      map[string]string  // its rows as it knows them; nil if it has never had a snapshot
	contained map[int64]struct{} // outbox ids of events that its snapshot contains
}

// placing is what became of an attempt to attach and to be placed.
type placing struct {
	c        *client
	err      error
	cursor   hub.Cursor
	snapshot *hub.Snapshot // nil if it was placed otherwise
}

// come attaches the follower and places it: by its cursor if it has one, and else by a snapshot or at this moment.
// Whatever it takes happens while the model goes on.
func (f *follower) come(snapshot bool) {
	c, cursor, result := f.c, f.cursor, make(chan placing, 1)
	f.attaching, f.placed = result, false
	go func() { // settled waits for it
		p := placing{c: c, cursor: cursor}
		if p.c == nil {
			p.c = &client{w: f.m.world}
			p.c.Session, p.err = f.m.hub.Attach(context.Background(), f.owner, p.c.wake, f.options)
		}
		switch {
		case p.err != nil:
		case snapshot:
			p.snapshot = new(hub.Snapshot)
			*p.snapshot, p.cursor, p.err = p.c.Snapshot(context.Background(), nil)
		case cursor.Log != "":
			p.err = p.c.Resume(context.Background(), cursor)
		default:
			p.cursor, p.err = p.c.Live(context.Background())
		}
		result <- p
	}()
	synctest.Wait()
	f.look()
}

// look takes note of how an attempt to be placed has ended, if it has.
func (f *follower) look() {
	var p placing
	select {
	case p = <-f.attaching:
		f.attaching = nil
	default:
		return
	}
	if p.c.Session != nil {
		f.c = p.c
	}
	switch reset, ok := errors.AsType[*hub.ErrReset](p.err); {
	case ok:
		f.reset(reset.Reason)
	case p.err != nil:
		f.leave()
	default:
		f.placed, f.cursor, f.contained = true, p.cursor, nil
		f.c.awake.Store(true)
		if p.snapshot != nil {
			f.begin(p.snapshot)
		}
	}
}

func (f *follower) begin(snapshot *hub.Snapshot) {
	f.rows, f.contained = make(map[string]string), make(map[int64]struct{})
	for _, row := range snapshot.Rows {
		f.rows[row.Key] = string(row.Data)
	}
	for _, id := range snapshot.Pending {
		f.contained[id] = struct{}{}
	}
}

// leave goes away, with the cursor.
func (f *follower) leave() {
	if f.c != nil {
		f.c.Close()
		f.c = nil
	}
	f.placed = false
}

// reset is told that its place is gone: that must be so. It gets a new one by a snapshot.
func (f *follower) reset(reason hub.Reason) {
	legitimate := false
	switch reason {
	case hub.ReasonTooOld:
		legitimate = f.m.trimmed[f.cursor.Log][f.owner] > f.cursor.Sequence
	case hub.ReasonOtherLog:
		// Answers of the old log may be under way for a moment.
		legitimate = f.cursor.Log != f.m.log.name || time.Since(f.m.renamed) < reconcileEvery
	}
	if !legitimate {
		f.m.Fatalf("%s at %s was reset, %s, for no reason", f.owner, f.cursor, reason)
	}
	f.come(true)
}

// drain takes all events there are, and checks each.
func (f *follower) drain() {
	if f.attaching != nil {
		f.look()
	}
	if !f.placed || f.attaching != nil {
		return
	}
	events, err := f.c.take()
	for i, event := range events {
		f.handed(event, f.c.got[i])
	}
	if reset, ok := errors.AsType[*hub.ErrReset](err); ok {
		f.reset(reset.Reason)
	} else if err != nil {
		f.m.Fatalf("%s at %s: Next says %v", f.owner, f.cursor, err)
	}
}

// handed checks an event: the owner's own, the next one but for those that the snapshot contains, and none of those.
func (f *follower) handed(event *hub.Event, cursor hub.Cursor) {
	if event.Owner != f.owner {
		f.m.Fatalf("%s was handed event %d of %s", f.owner, event.Sequence, event.Owner)
	}
	if want := (hub.Cursor{Log: f.cursor.Log, Sequence: event.Sequence}); cursor != want || event.Sequence <= f.cursor.Sequence {
		f.m.Fatalf("%s at %s was handed event %s", f.owner, f.cursor, cursor)
	}
	f.skipTo(event.Sequence - 1)
	if id := f.m.ids[cursor][f.owner]; id != event.OutboxID {
		f.m.Fatalf("%s was handed, as event %s, the one with id %d, want %d", f.owner, cursor, event.OutboxID, id)
	}
	if _, contained := f.contained[event.OutboxID]; contained {
		f.m.Fatalf("%s was handed event %s, which its snapshot contains", f.owner, cursor)
	}
	f.cursor = cursor
	if f.rows == nil {
		return
	}
	if event.Data == nil {
		delete(f.rows, event.Subject)
	} else {
		f.rows[event.Subject] = string(event.Data)
	}
}

// skipTo checks that none of the events after the cursor, up to the last, had to be handed out: the snapshot contains
// it, or, for who asked for that, a later one of the same video makes it needless.
func (f *follower) skipTo(last hub.Sequence) {
	for n := f.cursor.Sequence + 1; n <= last; n++ {
		id := f.m.ids[hub.Cursor{Log: f.cursor.Log, Sequence: n}][f.owner]
		_, contained := f.contained[id]
		needless := f.options.Conflate && f.m.newest[f.cursor.Log][f.owner][f.m.subjects[id]] > n
		if !contained && !needless {
			f.m.Fatalf("%s at %s did not get event %d", f.owner, f.cursor, n)
		}
	}
}

// complete checks that the follower lacks nothing, and that its rows are those of the database.
func (f *follower) complete() {
	h := f.m.log.owners[f.owner]
	if !f.placed || f.cursor.Log != f.m.log.name {
		f.m.Fatalf("%s is at %s in log %s, placed: %t", f.owner, f.cursor, f.m.log.name, f.placed)
	}
	if h == nil {
		return
	}
	f.skipTo(h.head)
	if f.rows == nil {
		return
	}
	rows := make(map[string]string)
	for _, row := range h.rows {
		rows[row.Key] = string(row.Data)
	}
	if !maps.Equal(f.rows, rows) {
		f.m.Fatalf("%s at %s has rows %v, and the database %v", f.owner, f.cursor, f.rows, rows)
	}
}
