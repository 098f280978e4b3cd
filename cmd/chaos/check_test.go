package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/api/client"
)

// record makes a watcher of alice that has an empty snapshot of log "l" at 0, compared once, so that all that follows
// is owed.
func record(t *testing.T) *watcher {
	t.Helper()
	w, err := newWatcher("alice", "alice/0", nil, nil, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	snapshot(t, w, "l.0", nil)
	if v := w.check(newTruth()); !v.clean() {
		t.Fatalf("a record of nothing: %s", v.String())
	}
	return w
}

func receive(t *testing.T, w *watcher, f client.Frame) {
	t.Helper()
	if err := w.handle(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, w *watcher, cursor string, videos map[string]int64) {
	t.Helper()
	var rows []string
	for id, version := range videos {
		rows = append(rows, fmt.Sprintf(`{"id":%q,"version":%d}`, id, version))
	}
	receive(t, w, client.Frame{
		ID: "own", Source: "reelay/session", Type: client.TypeSnapshot, Cursor: cursor,
		Data: json.RawMessage(`{"videos":[` + strings.Join(rows, ",") + `],"last":true}`),
	})
}

// told is one event as a session receives it.
type told struct {
	id, kind, subject string
	version           int64
}

func (e told) frame() client.Frame {
	f := client.Frame{ID: e.id, Source: "reelay", Type: "video." + e.kind, Subject: e.subject}
	if strings.Contains(e.kind, ".") {
		f.Type = e.kind
	}
	if e.version > 0 {
		f.Data = json.RawMessage(fmt.Sprintf(`{"version":%d}`, e.version))
	}
	return f
}

// lifetimes is what alice is to be told of three videos: made and changed, handed over and given back, and deleted.
var lifetimes = []told{
	{"l.1", "created", "a", 1},
	{"l.2", "updated", "a", 2},
	{"l.3", "created", "b", 1},
	{"l.4", "removed", "b", 0},
	{"l.5", "updated", "a", 3},
	{"l.6", "added", "b", 3},
	{"l.7", "created", "c", 1},
	{"l.8", "deleted", "c", 0},
	{"l.9", "chaos.probe", "probe", 1},
	{"l.10", "chaos.probe", "probe", 2},
	{"l.11", "chaos.probe", "probe", 3},
}

func truthOf(events []told, at func(n int) time.Time) *truth {
	t := newTruth()
	for n, e := range events {
		t.add("alice", e.subject, change{item{e.kind, e.version}, at(n)})
	}
	t.hold("alice", "a", 3)
	t.hold("alice", "b", 3)
	return t
}

func long(int) time.Time { return time.Time{} }

func TestCheck_FindsWhatIsWrongWithARecord(t *testing.T) {
	t.Parallel()
	without := func(n int) []told { return append(append([]told{}, lifetimes[:n]...), lifetimes[n+1:]...) }
	with := func(n int, e ...told) []told {
		return append(append(append([]told{}, lifetimes[:n]...), e...), lifetimes[n:]...)
	}
	swapped := func(a, b int) []told {
		events := append([]told{}, lifetimes...)
		events[a], events[b] = events[b], events[a]
		events[a].id, events[b].id = events[b].id, events[a].id
		return events
	}
	tests := map[string]struct {
		events []told
		want   verdict
	}{
		"nothing wrong":               {lifetimes, verdict{}},
		"an update lost":              {without(1), verdict{Lost: 1}},
		"the last update lost":        {without(4), verdict{Lost: 1, States: 1}},
		"a creation lost":             {without(0), verdict{Lost: 1}},
		"a removal lost":              {without(3), verdict{Lost: 1}},
		"a deletion lost":             {without(7), verdict{Lost: 1, States: 1}},
		"a probe lost":                {without(9), verdict{Lost: 1}},
		"everything lost":             {nil, verdict{Lost: len(lifetimes), States: 1}},
		"all of one video lost":       {append(append([]told{}, lifetimes[:6]...), lifetimes[8:]...), verdict{Lost: 2}},
		"twice, under the same id":    {with(2, lifetimes[1]), verdict{Twice: 2}}, // the id, and the item
		"twice, under another id":     {append(append([]told{}, lifetimes...), told{"l.12", "updated", "a", 3}), verdict{Twice: 1}},
		"a probe twice":               {append(append([]told{}, lifetimes...), told{"l.12", "chaos.probe", "probe", 3}), verdict{Twice: 1}},
		"late, with its own id":       {append(without(1), lifetimes[1]), verdict{Twice: 1, Disordered: 1, States: 1}}, // an id that goes back
		"two updates swapped":         {swapped(1, 4), verdict{Disordered: 1, States: 1}},
		"two probes swapped":          {swapped(9, 10), verdict{Disordered: 1}},
		"a foreign event":             {append(append([]told{}, lifetimes...), told{"l.12", "updated", "bobs", 7}), verdict{Foreign: 1, States: 1}},
		"a phantom":                   {append(append([]told{}, lifetimes...), told{"l.12", "updated", "a", 4}), verdict{Twice: 1, States: 1}},
		"another version":             {with(12-1, told{"l.12", "deleted", "a", 0}), verdict{Twice: 1, States: 1}},
		"another log without a reset": {append(append([]told{}, lifetimes[:10]...), told{"m.11", "chaos.probe", "probe", 3}), verdict{Twice: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := record(t)
			for _, e := range test.events {
				receive(t, w, e.frame())
			}
			got := w.check(truthOf(lifetimes, long))
			details := strings.Join(got.Details, "\n")
			if got.clean() != (len(got.Details) == 0) {
				t.Errorf("%s, with the details %q", got.String(), details)
			}
			if got.String() != test.want.String() {
				t.Errorf("got %s; want %s\n%s", got.String(), test.want.String(), details)
			}
		})
	}
}

func TestCheck_AfterAReset_OwesWhatTheSnapshotLacks(t *testing.T) {
	t.Parallel()
	received := time.Now()
	// The reset came behind the sixth event, and a video was made and deleted after it.
	at := func(n int) time.Time { return received.Add(time.Duration(n-5) * time.Hour) }
	held := map[string]int64{"a": 3, "b": 3}
	tests := map[string]struct {
		events []told
		want   verdict
	}{
		"all that follows":                  {lifetimes[6:], verdict{}},
		"made and deleted, and never told":  {lifetimes[8:], verdict{Lost: 2}},
		"a deletion lost":                   {append([]told{lifetimes[6]}, lifetimes[8:]...), verdict{Lost: 1, States: 1}},
		"a probe lost":                      {lifetimes[6:10], verdict{Lost: 1}},
		"the first probe after it lost":     {append(append([]told{}, lifetimes[6:8]...), lifetimes[9:]...), verdict{Lost: 1}},
		"what the snapshot holds once more": {append([]told{{"l.6", "added", "b", 3}}, lifetimes[6:]...), verdict{Twice: 2}},
		"nothing":                           {nil, verdict{Lost: 5}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := record(t)
			for _, e := range lifetimes[:3] { // what came before is forgotten, wrong or not
				receive(t, w, e.frame())
			}
			receive(t, w, client.Frame{ID: "own", Source: "reelay/session", Type: client.TypeReset})
			snapshot(t, w, "l.6", held)
			for _, e := range test.events {
				receive(t, w, e.frame())
			}
			got := w.check(truthOf(lifetimes, at))
			if got.String() != test.want.String() || got.Resets != 1 {
				t.Errorf("got %s, %d resets; want %s, 1 reset\n%s", got.String(), got.Resets, test.want.String(), strings.Join(got.Details, "\n"))
			}
		})
	}
}

func TestCheck_AfterAReset_WhatWasCommittedBeforeMayCome(t *testing.T) {
	t.Parallel()
	// The application's own events of before the snapshot: some had no number yet, and come after it.
	for from := range 4 {
		w := record(t)
		receive(t, w, client.Frame{ID: "own", Source: "reelay/session", Type: client.TypeReset})
		snapshot(t, w, "l.8", map[string]int64{"a": 3, "b": 3})
		for _, e := range lifetimes[8+from:] {
			receive(t, w, e.frame())
		}
		if got := w.check(truthOf(lifetimes, long)); !got.clean() {
			t.Errorf("from probe %d on: got %s, want nothing wrong\n%s", from+1, got.String(), strings.Join(got.Details, "\n"))
		}
	}
}

func TestCheck_BeginsTheRecordAnew(t *testing.T) {
	t.Parallel()
	w := record(t)
	for _, e := range lifetimes {
		receive(t, w, e.frame())
	}
	if got := w.check(truthOf(lifetimes, long)); !got.clean() {
		t.Fatalf("got %s, want nothing wrong\n%s", got.String(), strings.Join(got.Details, "\n"))
	}
	nothing := newTruth()
	nothing.hold("alice", "a", 3)
	nothing.hold("alice", "b", 3)
	if got := w.check(nothing); !got.clean() {
		t.Errorf("the second time: got %s, want nothing wrong\n%s", got.String(), strings.Join(got.Details, "\n"))
	}
	receive(t, w, lifetimes[4].frame())
	if got := w.check(nothing); got.clean() {
		t.Error("an event of before the comparison came again, and nothing was wrong")
	}
}
