package main

import (
	"bytes"
	"strconv"
	"sync/atomic"
)

// ledger is the writers' own book of what they committed, kept apart from everything that Reelay says. Each commit
// writes a number of its own into all of its rows, so that every row changes, and a socket that adds up the numbers that
// it receives must come to the same count and the same sum.
type ledger struct {
	each    int // videos of a user
	number  atomic.Int64
	total   atomic.Int64 // events committed, of all users
	entries []entry      // by user
}

// entry is what one user has to receive.
type entry struct{ count, sum atomic.Int64 }

func newLedger(users, each int) *ledger {
	return &ledger{each: each, entries: make([]entry, users)}
}

// rows returns how many videos there are. Video n belongs to user n / each.
func (l *ledger) rows() int { return len(l.entries) * l.each }

// next returns the number of the next commit, the first being 1.
func (l *ledger) next() int64 { return l.number.Add(1) }

// committed enters that a commit wrote its number into a row. It is called after the commit.
func (l *ledger) committed(video int, number int64) {
	e := &l.entries[video/l.each]
	e.count.Add(1)
	e.sum.Add(number)
	l.total.Add(1)
}

// tally is what one socket has received. Its own goroutine writes it.
type tally struct {
	sequence atomic.Int64 // of the last event
	count    atomic.Int64
	sum      atomic.Int64
	twice    atomic.Int64 // events whose sequence was not after the last one's: again, or backwards
	foreign  atomic.Int64 // events of another user's videos
}

// take enters an event that arrived at a socket of user. It reports whether it is a new one.
func (t *tally) take(e event, user, each int) bool {
	switch {
	case e.video/each != user:
		t.foreign.Add(1)
		return false
	case e.sequence <= t.sequence.Load():
		t.twice.Add(1)
		return false
	}
	t.sequence.Store(e.sequence)
	t.count.Add(1)
	t.sum.Add(e.number)
	return true
}

// lost returns how many of a user's events have not arrived, since the socket's tally and the user's entry were both at
// zero. Other numbers in as many events are a loss too.
func (t *tally) lost(e *entry) int {
	missing := e.count.Load() - t.count.Load()
	if missing == 0 && e.sum.Load() != t.sum.Load() {
		return 1
	}
	return int(max(missing, -missing))
}

// event is what the frame of a changed video says.
type event struct {
	sequence int64
	video    int
	number   int64 // that the commit wrote
}

// parseEvent reads the frame of a changed video, and reports whether it is one. It looks for what is needed and leaves
// the rest alone: clients have to be cheap, since they share the machine with what is measured. The ledger would show
// if it read wrongly.
func parseEvent(frame []byte) (e event, ok bool) {
	rest, found := bytes.CutPrefix(frame, []byte(`{"specversion":"1.0","id":"`))
	if !found {
		return event{}, false
	}
	cursor, rest, _ := bytes.Cut(rest, []byte(`","source":"reelay","type":"video.updated","subject":"v`))
	subject, rest, found := bytes.Cut(rest, []byte(`"`))
	if !found {
		return event{}, false
	}
	// An update carries the old values first, as "previous".
	member := []byte(`"progress":`)
	at := bytes.LastIndex(rest, member)
	point := bytes.LastIndexByte(cursor, '.')
	if at < 0 || point < 0 {
		return event{}, false
	}
	digits := bytes.TrimLeft(rest[at+len(member):], " ")
	end := bytes.IndexAny(digits, "}, ")
	if end < 0 {
		return event{}, false
	}
	var errs [3]error
	e.sequence, errs[0] = strconv.ParseInt(string(cursor[point+1:]), 10, 64)
	e.video, errs[1] = strconv.Atoi(string(subject))
	e.number, errs[2] = strconv.ParseInt(string(digits[:end]), 10, 64)
	return e, errs == [3]error{}
}
