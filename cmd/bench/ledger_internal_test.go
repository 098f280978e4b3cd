package main

import "testing"

// frameOf is a frame as a gateway writes it, its data as Postgres spells jsonb.
const frameOf = `{"specversion":"1.0","id":"35505e698f.42","source":"reelay","type":"video.updated","subject":"v17",` +
	`"time":"2026-11-22T10:00:00.123456Z","datacontenttype":"application/json","data":{"previous": {"progress": 8}, "progress": 9}}`

func TestParseEvent_ReadsWhatTheLedgerNeeds(t *testing.T) {
	t.Parallel()
	e, ok := parseEvent([]byte(frameOf))
	if want := (event{sequence: 42, video: 17, number: 9}); !ok || e != want {
		t.Errorf("got %+v, %t, want %+v", e, ok, want)
	}
	for _, other := range []string{
		`{"specversion":"1.0","id":"a-1","source":"reelay/session","type":"reelay.ready","cursor":"35505e698f.42"}`,
		`{"specversion":"1.0","id":"35505e698f.42","source":"reelay","type":"video.deleted","subject":"v17"}`,
		``, `{}`, frameOf[:len(frameOf)-4], frameOf[:90],
	} {
		if e, ok := parseEvent([]byte(other)); ok {
			t.Errorf("%q: got %+v, want no event", other, e)
		}
	}
}

func TestTally_CountsWhatIsLostTwiceOrForeign(t *testing.T) {
	t.Parallel()
	const each = 10
	for name, c := range map[string]struct {
		received             []event
		lost, twice, foreign int
	}{
		"all of it":                {[]event{{1, 10, 5}, {2, 19, 6}, {3, 10, 7}}, 0, 0, 0},
		"one is missing":           {[]event{{1, 10, 5}, {3, 10, 7}}, 1, 0, 0},
		"nothing came":             {nil, 3, 0, 0},
		"one came again":           {[]event{{1, 10, 5}, {1, 10, 5}, {2, 19, 6}, {3, 10, 7}}, 0, 1, 0},
		"one came late":            {[]event{{1, 10, 5}, {3, 10, 7}, {2, 19, 6}}, 1, 1, 0},
		"another instead of one":   {[]event{{1, 10, 5}, {2, 19, 5}, {3, 10, 7}}, 1, 0, 0},
		"one that nobody wrote":    {[]event{{1, 10, 5}, {2, 19, 6}, {3, 10, 7}, {4, 10, 8}}, 1, 0, 0},
		"one of the user's before": {[]event{{1, 10, 5}, {2, 9, 6}, {2, 19, 6}, {3, 10, 7}}, 0, 0, 1},
		"one of the user's behind": {[]event{{1, 10, 5}, {2, 20, 6}, {2, 19, 6}, {3, 10, 7}}, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(3, each)
			l.committed(10, 5)
			l.committed(19, 6)
			l.committed(10, 7)
			var tally tally
			for _, e := range c.received {
				tally.take(e, 1, each)
			}
			lost, twice, foreign := tally.lost(&l.entries[1]), int(tally.twice.Load()), int(tally.foreign.Load())
			if lost != c.lost || twice != c.twice || foreign != c.foreign {
				t.Errorf("got %d lost, %d twice, %d foreign, want %d, %d, %d", lost, twice, foreign, c.lost, c.twice, c.foreign)
			}
		})
	}
}

// Writers that took the same rows at the same time would wait for each other, or deadlock.
func TestManyRows_GivesEachWriterRowsOfItsOwn(t *testing.T) {
	t.Parallel()
	const writers, size = 4, 50
	l := newLedger(250, 10)
	pick := manyRows(l, writers, size)
	owner := make(map[int]int)
	for n := range 200 {
		for writer := range writers {
			users := make(map[int]bool)
			for _, video := range pick(writer, n) {
				if before, taken := owner[video]; taken && before != writer || video >= l.rows() {
					t.Fatalf("video %d: picked by writer %d, and by %d before", video, writer, before)
				}
				owner[video] = writer
				users[video/l.each] = true
			}
			if len(users) != size {
				t.Fatalf("a commit of %d users, want %d", len(users), size)
			}
		}
	}
	if len(owner) < l.rows()*9/10 {
		t.Errorf("%d of %d videos were picked, want nearly all", len(owner), l.rows())
	}
}
