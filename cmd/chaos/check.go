package main

import (
	"fmt"
	"maps"
	"slices"
)

// verdict counts what records say against the truth.
type verdict struct {
	Lost, Twice, Disordered, Foreign, States int
	Resets                                   int // no fault by itself: they are announced
	Details                                  []string
}

func (v *verdict) add(o verdict) {
	v.Lost += o.Lost
	v.Twice += o.Twice
	v.Disordered += o.Disordered
	v.Foreign += o.Foreign
	v.States += o.States
	v.Resets += o.Resets
	v.Details = append(v.Details, o.Details...)
}

func (v *verdict) clean() bool {
	return v.Lost+v.Twice+v.Disordered+v.Foreign+v.States == 0
}

func (v *verdict) String() string {
	return fmt.Sprintf("lost %d, twice %d, out of order %d, foreign %d, wrong states %d",
		v.Lost, v.Twice, v.Disordered, v.Foreign, v.States)
}

// check compares what the watcher received since the last time with the truth since then. It is called when all is
// quiet, and begins the record anew.
func (w *watcher) check(t *truth) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := verdict{Resets: w.resets}
	note := func(format string, args ...any) {
		v.Details = append(v.Details, w.name+": "+fmt.Sprintf(format, args...))
	}
	for _, fault := range w.faults {
		v.Twice++
		note("%s", fault)
	}
	expected := t.events[w.user]
	for subject, got := range w.events {
		want, known := expected[subject]
		if !known {
			v.Foreign += len(got)
			note("foreign: %s %v", subject, got)
			continue
		}
		compare(&v, note, subject, w.owed(want, subject, len(got)), got)
	}
	for subject, want := range expected {
		if _, some := w.events[subject]; some {
			continue
		}
		if missing := w.owed(want, subject, 0); len(missing) > 0 {
			v.Lost += len(missing)
			note("lost: %s %v", subject, missing)
		}
	}
	if !maps.Equal(w.state, t.state[w.user]) && len(w.state)+len(t.state[w.user]) > 0 {
		v.States++
		note("state: has %v, the table has %v", w.state, t.state[w.user])
		w.state = maps.Clone(t.state[w.user])
	}
	w.begin()
	return v
}

// begin begins the record anew. w.mu is held.
func (w *watcher) begin() {
	if w.state == nil {
		w.state = make(map[string]int64)
	}
	clear(w.events)
	clear(w.markers)
	clear(w.late)
	w.base, w.faults, w.resets = nil, nil, 0
}

// owed returns the part of the changes that was to come: all of them, or, where a snapshot came in between, those after
// it. w.mu is held.
//
// A video that the snapshot holds has its version there. One that it does not hold was gone at that moment, or not there
// yet: what follows begins at the start, or behind a removal. An event of the application's own is in no snapshot, and
// it is owed if it was made after the snapshot had come; one made before may have come, too. Where there is a choice,
// the one that fits the number received is meant, but what was made after the snapshot had come is owed in any case.
func (w *watcher) owed(want []change, subject string, received int) []item {
	start := 0
	if w.base != nil {
		latest := slices.IndexFunc(want, func(c change) bool { return c.at.After(w.snapshotAt) })
		if latest < 0 {
			latest = len(want)
		}
		version, held := w.base[subject]
		switch {
		case held:
			start = 1 + slices.IndexFunc(want, func(c change) bool { return c.ofRow() && c.Version == version })
		case len(want) > 0 && !want[0].ofRow():
			start = min(latest, max(0, len(want)-received))
		case len(want) != received:
			for at := range latest {
				if want[at].ofRow() && want[at].Version == 0 && len(want)-at-1 == received {
					start = at + 1
					break
				}
			}
		}
	}
	items := make([]item, 0, len(want)-start)
	for _, c := range want[start:] {
		items = append(items, c.item)
	}
	return items
}

func compare(v *verdict, note func(string, ...any), subject string, want, got []item) {
	if slices.Equal(want, got) {
		return
	}
	count := make(map[item]int)
	for _, i := range want {
		count[i]++
	}
	for _, i := range got {
		count[i]--
	}
	var missing, surplus []item
	for i, n := range count {
		for range n {
			missing = append(missing, i)
		}
		for range -n {
			surplus = append(surplus, i)
		}
	}
	v.Lost += len(missing)
	v.Twice += len(surplus)
	if len(missing)+len(surplus) == 0 {
		v.Disordered++
	}
	note("%s: want %s, got %s; missing %s, too many %s", subject, brief(want), brief(got), brief(missing), brief(surplus))
}

// brief is a list of items short enough to be read.
func brief(items []item) string {
	const most = 12
	if len(items) <= most {
		return fmt.Sprint(items)
	}
	return fmt.Sprintf("%v … %v (%d)", items[:most/2], items[len(items)-most/2:], len(items))
}
