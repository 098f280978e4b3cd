package pg_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/hub"
)

// queries returns how many queries of a kind a Log has made, whatever became of them.
func queries(t testing.TB, registry *prometheus.Registry, kind string) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if family.GetName() == "reelay_log_queries_total" && label.GetName() == "kind" && label.GetValue() == kind {
					n += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// hold keeps every query of the log waiting until the function it returns is called. So what is asked meanwhile gathers.
func hold(s *session) (release func()) {
	s.t.Helper()
	gate := s.another()
	gate.exec(`BEGIN; LOCK TABLE reelay.state IN ACCESS EXCLUSIVE MODE`)
	return func() { gate.exec(`ROLLBACK`) }
}

// waiting says how many queries wait for what hold holds.
const waiting = `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'reelay.state'::regclass`

// All clients come back at once: few queries answer them all, each with its own.
func TestLog_ManyQuestionsAreAnsweredByFewQueries(t *testing.T) {
	t.Parallel()
	const clients = 500
	s := open(t, watched, `
		INSERT INTO reelay.log SELECT i, 'u' || i, 1, i, 'v' || i, 'video.updated', NULL, now() FROM generate_series(1, 500) i;
		INSERT INTO reelay.owner_head SELECT 'u' || i, 1 FROM generate_series(1, 500) i;
		INSERT INTO videos SELECT 'v' || i, 'u' || i FROM generate_series(1, 500) i;
		DELETE FROM reelay.outbox`)
	l, registry := readLogWith(t, s.url)
	release := hold(s)
	var wait sync.WaitGroup
	asked := make(chan struct{}, 2*clients)
	for i := 1; i <= clients; i++ {
		owner := hub.Owner(fmt.Sprint("u", i))
		wait.Go(func() {
			asked <- struct{}{}
			got, err := l.Read(context.Background(), owner, 0, 10)
			if err != nil || page(got) != "1 1 [1]" || got.Events[0].Owner != owner {
				t.Errorf("%s: got %s, %v", owner, page(got), err)
			}
		})
		wait.Go(func() {
			asked <- struct{}{}
			got, err := l.Snapshot(context.Background(), owner, nil)
			if err != nil || len(got.Rows) != 1 || got.Rows[0].Key != "v"+string(owner[1:]) {
				t.Errorf("%s: got %+v, %v", owner, got, err)
			}
		})
	}
	for range 2 * clients {
		<-asked
	}
	// Where they came as a storm, one query of each kind may have taken them all.
	eventually(t, "questions of both kinds wait for Postgres", func() bool { return one[int](s, waiting) >= 2 })
	release()
	wait.Wait()
	// Four lanes each had a query in flight; then come the 500, at most 256 at a time, and stragglers.
	for _, kind := range []string{"read", "snapshot"} {
		if n := queries(t, registry, kind); n < 1 || n > 40 {
			t.Errorf("%v queries of kind %s answered %d questions", n, kind, clients)
		}
	}
}

// A question that Postgres cannot answer is one client's, and those whose questions travel with it must not suffer.
func TestLog_ABadQuestionSpoilsNoOther(t *testing.T) {
	t.Parallel()
	s := open(t, watched, numbered, `INSERT INTO videos VALUES ('v1', 'alice'); DELETE FROM reelay.outbox`)
	l := readLog(t, s.url)
	release := hold(s)
	var wait sync.WaitGroup
	ask := func(good bool, question func() error) {
		wait.Go(func() {
			if err := question(); (err == nil) != good {
				t.Errorf("good %v: got %v", good, err)
			}
		})
	}
	ctx := t.Context()
	for i := range 60 {
		ask(true, func() error {
			got, err := l.Read(ctx, "alice", 9, 10)
			if err == nil && page(got) != "10 10 [10]" {
				err = errors.New(page(got))
			}
			return err
		})
		ask(true, func() error {
			got, err := l.Snapshot(ctx, "alice", []string{"v1"})
			if err == nil && len(got.Rows) != 1 {
				err = fmt.Errorf("%d rows", len(got.Rows))
			}
			return err
		})
		if i%20 == 0 {
			ask(false, func() error { _, err := l.Read(ctx, "a\x00b", 0, 10); return err })
			ask(false, func() error { _, err := l.Read(ctx, "\xff", 0, 10); return err })
			ask(false, func() error { _, err := l.Read(ctx, "alice", 0, -1); return err })
			ask(false, func() error { _, err := l.Snapshot(ctx, "alice", []string{"a\x00b"}); return err })
			ask(false, func() error { _, err := l.Snapshot(ctx, "\xff", nil); return err })
		}
	}
	// Where they came as a storm, one query of each kind may have taken them all.
	eventually(t, "questions of both kinds wait for Postgres", func() bool { return one[int](s, waiting) >= 2 })
	release()
	wait.Wait()
}

// Who stops waiting gets an answer at once, and leaves the others theirs.
func TestLog_ACallerWhoLeavesIsNotHeld(t *testing.T) {
	t.Parallel()
	s := open(t, numbered)
	l := readLog(t, s.url)
	release := hold(s)
	ctx, leave := context.WithCancel(t.Context())
	left, stayed := make(chan error, 50), make(chan error, 50)
	for range 50 {
		go func() { _, err := l.Read(ctx, "alice", 0, 10); left <- err }()           // ends when it is cancelled
		go func() { _, err := l.Read(t.Context(), "alice", 0, 10); stayed <- err }() // ends when Postgres answers
	}
	eventually(t, "a query waits for Postgres", func() bool { return one[int](s, waiting) >= 1 })
	leave()
	for range 50 {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
	release()
	for range 50 {
		if err := <-stayed; err != nil {
			t.Error(err)
		}
	}
}

// Postgres holds a question for longer than a client should wait.
func TestLog_AQuestionHasALimit(t *testing.T) {
	t.Parallel()
	s := open(t, numbered)
	l := readLog(t, s.url)
	release := hold(s)
	defer release()
	_, read := l.Read(t.Context(), "alice", 0, 10)
	if !errors.Is(read, context.DeadlineExceeded) && (read == nil || !strings.Contains(read.Error(), "timeout")) {
		t.Errorf("got %v, want an error about the time", read)
	}
}
