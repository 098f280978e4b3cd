package main

import (
	"strings"
	"testing"
	"time"
)

// watched returns what is seen of an hour in which the outbox has a size at each moment.
func watched(outbox func(at time.Duration) float64) *watch {
	w := new(watch)
	for i := range steadyRows*steadyEach + 1 {
		at := time.Hour * time.Duration(i) / (steadyRows * steadyEach)
		w.taken = append(w.taken, glance{at: at, outbox: outbox(at), state: 8 << 10, heads: 64 << 10})
		if i%steadyEach == 0 {
			w.entry(w.taken[i])
		}
	}
	return w
}

func TestSteady_SaysWhatGrows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		length time.Duration
		outbox func(time.Duration) float64
		ratio  ratio
		want   string
	}{
		{"constant after the first minutes", time.Hour, func(at time.Duration) float64 { return min(1, at.Hours()*8) * 5e6 }, 1, "they stay as they are"},
		{"one peak", time.Hour, func(at time.Duration) float64 {
			if at > 50*time.Minute && at < 52*time.Minute {
				return 9e6
			}
			return 5e6
		}, 1, "they stay as they are"},
		{"ever growing", time.Hour, func(at time.Duration) float64 { return at.Hours() * 5e6 }, 0.8863636363636364 / 0.38636363636363635, "they grow"},
		{"too short", time.Minute, func(time.Duration) float64 { return 5e6 }, 0, "too short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			table := watched(c.outbox).table(options{steady: c.length, rate: 1000}, 3, 0)
			verdict := table.Rows[len(table.Rows)-1]
			if len(table.Rows) != steadyRows+2 || verdict["lost"] != 3 {
				t.Errorf("got %d rows, the last %v, want %d and what was lost", len(table.Rows), verdict, steadyRows+2)
			}
			got, _ := verdict["outbox"].(ratio)
			if c.length == time.Hour && (got < c.ratio*0.99 || got > c.ratio*1.01 || verdict["state"] != ratio(1)) {
				t.Errorf("got %v, want %.2f times the outbox, and the same state", verdict, c.ratio)
			}
			if said := strings.Join(table.Notes, "\n"); !strings.Contains(said, c.want) {
				t.Errorf("got %s, want it to say that %s", said, c.want)
			}
		})
	}
}

func TestWatch_KnowsHowLongAnEventTook(t *testing.T) {
	t.Parallel()
	w := new(watch)
	w.begin(commit{number: 7})
	w.begin(commit{number: stamps + 8}) // in the place of 8, which took more than a minute
	now := time.Now().Add(time.Second)
	w.arrive(event{number: 7}, now)
	w.arrive(event{number: 8}, now)
	if len(w.took) != 1 || w.took[0] < 999 {
		t.Errorf("got %v ms, want at least 1000 of the one that is known", w.took)
	}
}
