package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/api/client"
)

func TestSentry_MeasuresTheLongestUntruth(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	s := &sentry{}
	for at, said := range []struct{ ready, serves bool }{
		{true, true}, {true, false}, {true, false}, {false, false}, {false, true}, {false, true}, {false, true}, {true, true}, {true, false},
	} {
		s.note(said.ready, said.serves, begin.Add(time.Duration(at)*time.Second))
	}
	if got := s.untruth(); got != 2*time.Second {
		t.Errorf("untruth: got %v, want the 2s for which it said no and served", got)
	}
	s.forget()
	if got := s.untruth(); got != 0 {
		t.Errorf("after forget: got %v, want 0", got)
	}
}

func TestWatcher_MeasuresSilence(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	second := func(n float64) time.Time { return begin.Add(time.Duration(n * float64(time.Second))) }
	tests := map[string]struct {
		arrivals    []float64
		from, until float64
		want        time.Duration
	}{
		"none":               {nil, 0, 4, 4 * time.Second},
		"evenly":             {[]float64{0, 1, 2, 3, 4}, 0, 4, time.Second},
		"in the middle":      {[]float64{0, 1, 3.5, 4}, 0, 4, 2500 * time.Millisecond},
		"at the end":         {[]float64{0, 1}, 0, 4, 3 * time.Second},
		"begun before":       {[]float64{0, 3, 4}, 1, 4, 2 * time.Second},
		"before and after":   {[]float64{0, 5}, 1, 4, 3 * time.Second},
		"none within, later": {[]float64{9}, 1, 4, 3 * time.Second},
	}
	for name, test := range tests {
		w := &watcher{}
		for n, at := range test.arrivals {
			w.arrivals = append(w.arrivals, arrival{int64(n), second(at)})
		}
		if got := w.silence(second(test.from), second(test.until)); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestProber_KnowsWhichProbesAreYounger(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	p := &prober{begun: []time.Time{begin, begin.Add(time.Second), begin.Add(2 * time.Second)}, took: []time.Duration{1, 3, 2}}
	for after, want := range map[time.Duration]int64{-time.Second: 1, 0: 1, time.Millisecond: 2, 2 * time.Second: 3, 3 * time.Second: 4} {
		if got := p.since(begin.Add(after)); got != want {
			t.Errorf("since %v: got %d, want %d", after, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for n := range 100 {
		all = append(all, time.Duration((n*37)%100+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := quantile(all, q); got != want {
			t.Errorf("quantile %v: got %d, want %d", q, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: got %d, want 0", got)
	}
}

// played is an episode of a fault with a bound of two seconds, as it is judged.
func played(change func(*episode)) *row {
	f := fault{number: 99, name: "meteor", title: "a meteor", limit: 2 * time.Second, counts: "its fall"}
	e := &episode{campaign: &campaign{}, fault: &f, recoveries: []time.Duration{time.Second}}
	change(e)
	e.conclude(time.Now())
	r := &row{fault: f}
	r.add(e)
	return r
}

func TestReport_JudgesPromisesAndBounds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change       func(*episode)
		kept, inTime bool
		says         string
	}{
		"all well":           {func(*episode) {}, true, true, "a meteor"},
		"late":               {func(e *episode) { e.recoveries = append(e.recoveries, 3*time.Second) }, true, false, "recovered 3.00 s after its fall, and not within 2s"},
		"late, as all was":   {func(e *episode) { e.recoveries[0] = 3 * time.Second; e.machine.worst = 2 * time.Second }, true, false, "stood still for 2.00 s"},
		"lied":               {func(e *episode) { e.sentries = []*sentry{{longest: 6 * time.Second}} }, true, false, "told the untruth for 6.00 s"},
		"lost":               {func(e *episode) { e.verdict.Lost = 1 }, false, true, "lost 1, twice 0"},
		"twice":              {func(e *episode) { e.verdict.Twice = 1 }, false, true, "twice 1"},
		"out of order":       {func(e *episode) { e.verdict.Disordered = 1 }, false, true, "out of order 1"},
		"foreign":            {func(e *episode) { e.verdict.Foreign = 1 }, false, true, "foreign 1"},
		"a wrong state":      {func(e *episode) { e.verdict.States = 1 }, false, true, "wrong states 1"},
		"reset":              {func(e *episode) { e.verdict.Resets = 1 }, false, true, "1 sessions were reset"},
		"reset, as expected": {func(e *episode) { e.verdict.Resets = 1; e.fault.resets = true }, true, true, "a meteor"},
		"something else":     {func(e *episode) { e.breaks("the sky fell") }, false, true, "the sky fell"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &report{rows: []*row{played(test.change)}}
			if r.kept() != test.kept || r.inTime() != test.inTime {
				t.Errorf("kept %v, in time %v; want %v, %v", r.kept(), r.inTime(), test.kept, test.inTime)
			}
			var table bytes.Buffer
			r.print(&table)
			if !strings.Contains(table.String(), test.says) {
				t.Errorf("got the table\n%s\nwant it to have %q", table.String(), test.says)
			}
			if wrong := strings.Contains(table.String(), "WRONG"); wrong == (test.kept && test.inTime) {
				t.Errorf("got the table\n%s\nwhich says WRONG: %v", table.String(), wrong)
			}
		})
	}
}

func TestReport_SaysWhatWasNotPlayed(t *testing.T) {
	t.Parallel()
	var table bytes.Buffer
	r := &report{rows: []*row{{fault: fault{number: 3, title: "a cable pulled"}, skipped: "there are no cables here"}}}
	r.print(&table)
	if want := "a cable pulled"; !strings.Contains(table.String(), want) || !strings.Contains(table.String(), "there are no cables here") {
		t.Errorf("got\n%s\nwant what was skipped, and why", table.String())
	}
}

func TestChoose_PlaysEveryFaultThatIsKnown(t *testing.T) {
	t.Parallel()
	all, err := choose("")
	if err != nil || len(all) != 20 {
		t.Fatalf("got %d faults, %v; want 20", len(all), err)
	}
	for n, f := range all {
		if f.number != n+1 || f.name == "" || f.title == "" || (f.play == nil) == (f.missing == "") {
			t.Errorf("fault %d: number %d, name %q, title %q, played %v, missing %q", n+1, f.number, f.name, f.title, f.play != nil, f.missing)
		}
	}
	some, err := choose("redis-killed, 2")
	if err != nil || len(some) != 2 || some[0].number != 5 || some[1].number != 2 {
		t.Errorf("got %v, %v; want 5 and 2", some, err)
	}
}

func TestSamples_SumAddsUpOneMetric(t *testing.T) {
	t.Parallel()
	s := samples{`a`: 1, `a{x="1"}`: 2, `a{x="2"}`: 4, `a_total`: 8, `b`: 16}
	if got := s.sum("a"); got != 7 {
		t.Errorf("got %v, want 7", got)
	}
}

func TestWatcher_KnowsWhatItWasToldOfTheLog(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	second := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	frame := func(kind, code string) client.Frame {
		return client.Frame{Type: kind, Source: "reelay/session", Data: []byte(`{"code":"` + code + `"}`)}
	}
	w := &watcher{}
	for _, f := range []client.Frame{frame(client.TypeReady, ""), frame(client.TypeError, "slow_down")} {
		if err := w.handle(t.Context(), f); err != nil || !w.isAvailable() {
			t.Fatalf("after %s: available %v, %v; want true", f.Type, w.isAvailable(), err)
		}
	}
	for _, restored := range []client.Frame{frame(client.TypeError, "available"), frame(client.TypeReady, "")} {
		if err := w.handle(t.Context(), frame(client.TypeError, "unavailable")); err != nil || w.isAvailable() {
			t.Fatalf("told unavailable: available %v, %v; want false", w.isAvailable(), err)
		}
		if at, told := w.toldSince(begin); !told || at.Before(begin) {
			t.Fatalf("told at %v, %v; want after %v", at, told, begin)
		}
		if err := w.handle(t.Context(), restored); err != nil || !w.isAvailable() {
			t.Fatalf("told %s: available %v, %v; want true", restored.Type, w.isAvailable(), err)
		}
	}
	w.news = []news{{false, second(1)}, {true, second(3)}, {false, second(5)}}
	for from, want := range map[int]int{0: 1, 2: 5, 4: 5, 6: 6} {
		if at, told := w.toldSince(second(from)); !told || !at.Equal(second(want)) {
			t.Errorf("since %d s: got %v, %v; want %d s", from, at.Sub(begin), told, want)
		}
	}
	w.news = w.news[:2]
	if at, told := w.toldSince(second(2)); told {
		t.Errorf("got %v, though it was not told since", at.Sub(begin))
	}
}

func TestResources_GoBackToWhereTheyWere(t *testing.T) {
	t.Parallel()
	before := resources{goroutines: 400, descriptors: 200, heap: 16 << 20, resident: 96 << 20}
	for name, test := range map[string]struct {
		change func(*resources)
		want   bool
	}{
		"the same":                  {func(*resources) {}, true},
		"a little more":             {func(r *resources) { r.goroutines += 50; r.heap += 5 << 20; r.resident += 80 << 20 }, true},
		"goroutines":                {func(r *resources) { r.goroutines += 120 }, false},
		"descriptors":               {func(r *resources) { r.descriptors += 90 }, false},
		"heap":                      {func(r *resources) { r.heap += 40 << 20 }, false},
		"resident memory":           {func(r *resources) { r.resident = 842 << 20 }, false},
		"of the race detector":      {func(r *resources) { r.raced, r.resident = true, 842<<20 }, true},
		"heap in the race detector": {func(r *resources) { r.raced, r.heap = true, 80<<20 }, false},
	} {
		after := before
		if test.change(&after); after.near(before) != test.want {
			t.Errorf("%s: %s, before %s: near %v, want %v", name, after, before, !test.want, test.want)
		}
	}
}

func TestForgotten_WaitsUntilEveryReplicaHasNoMoreThanItHeld(t *testing.T) {
	t.Parallel()
	const few = "reelay_connections 4\nreelay_feeds 5\n"
	held := samples{"reelay_connections": 6, "reelay_feeds": 8} // by both; each may have a sentry more
	for name, answer := range map[string]string{
		"no answer":   "",
		"connections": "reelay_connections 5\nreelay_feeds 5\n",
		"feeds":       "reelay_connections 4\nreelay_feeds 6\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0 // one request at a time
			c := &campaign{stack: &stack{}}
			for _, handle := range []http.HandlerFunc{
				func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, few) },
				func(w http.ResponseWriter, _ *http.Request) {
					said := few
					if asked++; asked <= 3 {
						said = answer
					}
					if said == "" {
						panic(http.ErrAbortHandler)
					}
					_, _ = io.WriteString(w, said)
				},
			} {
				admin := httptest.NewServer(handle)
				t.Cleanup(admin.Close)
				c.replicas = append(c.replicas, &replica{admin: admin.Listener.Addr().String()})
			}
			if err := c.forgotten(t.Context(), held); err != nil || asked != 4 {
				t.Errorf("got %v after %d answers, want none after the fourth", err, asked)
			}
		})
	}
}

func TestLetGo_WaitsUntilEveryReplicaHasComparedItsFeeds(t *testing.T) {
	t.Parallel()
	c := &campaign{stack: &stack{}}
	compares := []int{9, 4} // the answer with which each counts one comparison more
	asked := make([]int, len(compares))
	for n, at := range compares {
		admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked[n]++
			compared := 7
			if asked[n] >= at {
				compared++
			}
			// A beat with each fourth answer.
			_, _ = fmt.Fprintf(w, "reelay_hub_catch_ups_total{cause=\"reconcile\"} %d\nreelay_hub_catch_ups_total{cause=\"beat\"} %d\n", compared, asked[n]/4)
		}))
		t.Cleanup(admin.Close)
		c.replicas = append(c.replicas, &replica{admin: admin.Listener.Addr().String()})
	}
	// Both have compared with the ninth; the beat that follows comes with the twelfth.
	if err := c.letGo(t.Context()); err != nil || asked[0] != 12 || asked[1] != 12 {
		t.Errorf("got %v after %v answers, want none after the twelfth", err, asked)
	}
}

func TestHasRaceDetector(t *testing.T) {
	t.Parallel()
	raced, err := hasRaceDetector(buildGateway(t))
	if err != nil || !raced {
		t.Errorf("got %v, %v; want true for a gateway that was built with it", raced, err)
	}
}
