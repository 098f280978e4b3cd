package pg_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// denylist is one replica's Revocations, and what it heard.
type denylist struct {
	*pg.Revocations
	registry *prometheus.Registry
	logged   *strings.Builder // read it after stop
	stop     func()

	mu    sync.Mutex
	heard []pg.Revocation // guarded by mu
	at    []time.Time     // guarded by mu; when each was heard
}

// hear starts a replica that hears of revocations until the test ends, or stop is called.
func hear(t testing.TB, url string) *denylist {
	t.Helper()
	l := &denylist{registry: prometheus.NewRegistry(), logged: new(strings.Builder)}
	metrics := pg.NewMetrics(l.registry)
	log, err := pg.OpenLog(context.Background(), url, metrics)
	if err != nil {
		t.Fatal(err)
	}
	l.Revocations = pg.NewRevocations(log, func(r pg.Revocation) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard, l.at = append(l.heard, r), append(l.at, time.Now())
	}, slog.New(slog.NewTextHandler(io.MultiWriter(l.logged, t.Output()), nil)), metrics)
	if l.Loaded() {
		t.Error("it says that all is loaded before it ran")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }() // ends with the context; stop waits
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil", err)
		}
		log.Close()
	})
	t.Cleanup(l.stop)
	return l
}

// loaded is hear, and waits until everything in force was heard.
func loaded(t testing.TB, url string) *denylist {
	t.Helper()
	l := hear(t, url)
	eventually(t, "what is in force was read", l.Loaded)
	return l
}

// names returns whom or what was heard of, in the order of the alphabet.
func (l *denylist) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, r := range l.heard {
		names = append(names, r.User+r.TokenID)
	}
	slices.Sort(names)
	return names
}

// hears waits until a name was heard.
func (l *denylist) hears(t testing.TB, name string) {
	t.Helper()
	eventually(t, "it hears of "+name, func() bool { return slices.Contains(l.names(), name) })
}

// gauge returns the value of a metric.
func (l *denylist) gauge(t testing.TB, name string) float64 {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// looks returns how often it looked, with whatever result.
func (l *denylist) looks(t testing.TB) (n float64) {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "reelay_log_queries_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == "revocations" {
				n += metric.GetCounter().GetValue()
			}
		}
	}
	return n
}

func TestRevocations_TellsWhatWasCalled(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.exec(`SELECT reelay.disconnect('before', E'a\nreason', '2999-01-01Z'), reelay.revoke_token('over', now() - interval '301 s')`)
	l := loaded(t, s.url)
	same(t, "in force at the start", l.names(), []string{"before"})
	s.exec(`SELECT reelay.revoke_token('t-1', '2999-01-01Z'), reelay.disconnect('for ever', until => 'infinity'), reelay.disconnect('never', until => '-infinity')`)
	s.exec(`SELECT reelay.disconnect('by default')`)
	l.hears(t, "by default")
	same(t, "heard", l.names(), []string{"before", "by default", "for ever", "t-1"})
	l.mu.Lock()
	defer l.mu.Unlock()
	now := one[time.Time](s, `SELECT now()`)
	for _, r := range l.heard {
		want := time.Date(2999, 1, 1, 0, 5, 0, 0, time.UTC)
		switch r.User {
		case "for ever":
			want = time.Date(9999, 12, 1, 0, 5, 0, 0, time.UTC)
		case "by default":
			want = now.Add(30*24*time.Hour + 5*time.Minute)
		case "before":
			if r.Reason != "a\nreason" || r.TokenID != "" {
				t.Errorf("got %+v", r)
			}
		}
		if off := r.Until.Sub(want).Abs(); off > time.Minute || r.User != "by default" && off != 0 {
			t.Errorf("%s%s: until %v, want %v", r.User, r.TokenID, r.Until, want)
		}
		if age := now.Sub(r.At); age < -time.Second || age > patience {
			t.Errorf("%s%s: at %v, want about %v", r.User, r.TokenID, r.At, now)
		}
	}
	if n := l.gauge(t, "reelay_revocations"); n != 4 {
		t.Errorf("the metric says %v in force, want 4", n)
	}
	if age := l.gauge(t, "reelay_revocations_age_seconds"); age < 0 || age > patience.Seconds() {
		t.Errorf("the metric says %v s since the last look", age)
	}
}

// With the rights of who serves, and no leader anywhere.
func TestRevocations_HearsWithinASecondOfTheCommit(t *testing.T) {
	t.Parallel()
	s := open(t)
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	l := loaded(t, login(s.url, role))
	var took []time.Duration
	for i := range 12 {
		name := fmt.Sprint("u", i)
		s.exec(`SELECT reelay.disconnect($1)`, name)
		committed := time.Now()
		l.hears(t, name)
		l.mu.Lock()
		took = append(took, l.at[len(l.at)-1].Sub(committed))
		l.mu.Unlock()
	}
	slices.Sort(took)
	t.Logf("from commit to call: median %v, longest %v", took[len(took)/2], took[len(took)-1])
	if longest := took[len(took)-1]; longest > time.Second {
		t.Errorf("it took %v, want at most a second", longest)
	}
}

// A call that is made early and committed late is heard, although others that were made after it were heard before.
func TestRevocations_ALateCommitIsNotMissed(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	idle, busy := s.another(), s.another()
	idle.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM videos`)     // as a dump
	busy.exec(`BEGIN; INSERT INTO videos VALUES ('open', 'alice'); SAVEPOINT s`) // holds the horizon down
	early, prepared, nested := s.another(), s.another(), s.another()
	l := loaded(t, s.url)
	early.exec(`BEGIN; SELECT reelay.disconnect('early')`)
	prepared.exec(`BEGIN; SELECT reelay.revoke_token('prepared'); PREPARE TRANSACTION 'late'`)
	nested.exec(`BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT reelay.disconnect('nested'); RELEASE b; SAVEPOINT c; SELECT reelay.disconnect('undone'); ROLLBACK TO c`)
	for i := range 50 {
		s.exec(`SELECT reelay.disconnect($1)`, fmt.Sprintf("u%02d", i))
	}
	l.hears(t, "u49")
	s.exec(`SELECT reelay.disconnect('marker 1')`) // one look more
	l.hears(t, "marker 1")
	busy.exec(`ROLLBACK`)
	s.exec(`SELECT reelay.disconnect('marker 2')`) // and one when the horizon has moved
	l.hears(t, "marker 2")
	for name, commit := range map[string]func(){
		"early":    func() { early.exec(`COMMIT`) },
		"prepared": func() { prepared.exec(`COMMIT PREPARED 'late'`) },
		"nested":   func() { nested.exec(`COMMIT`) },
	} {
		commit()
		l.hears(t, name)
	}
	if names := l.names(); len(names) != 55 || slices.Contains(names, "undone") {
		t.Errorf("heard %v, want each once", names)
	}
}

// Callers that take their time, with savepoints, rollbacks and others between them: each call that was committed is
// heard exactly once by each replica, and no other.
func TestRevocations_HearsEachCommittedCallOnce(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	first := loaded(t, s.url)
	var mu sync.Mutex
	var want []string // guarded by mu
	var callers sync.WaitGroup
	for i := range 10 {
		callers.Go(func() {
			conn, err := pgx.Connect(context.Background(), s.url)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close(context.Background()) }()
			random := rand.New(rand.NewPCG(5, uint64(i)))
			for n := range 12 {
				script, names := calls(fmt.Sprintf("c%d-%d", i, n), random)
				if _, err := conn.Exec(context.Background(), script); err != nil {
					t.Errorf("%s: %v", script, explain(err))
					return
				}
				mu.Lock()
				want = append(want, names...)
				mu.Unlock()
			}
		})
	}
	second := loaded(t, s.url) // begins in the middle
	callers.Wait()
	s.exec(`SELECT reelay.disconnect('~last')`)
	slices.Sort(want)
	want = append(want, "~last")
	for _, l := range []*denylist{first, second} {
		l.hears(t, "~last")
		same(t, "heard", l.names(), want)
	}
}

// calls makes up a transaction, and says whom it disconnects in the end.
func calls(name string, random *rand.Rand) (script string, names []string) {
	script = "BEGIN ISOLATION LEVEL " + []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[random.IntN(3)] + ";"
	for i := range 1 + random.IntN(3) {
		id := fmt.Sprint(name, "-", i)
		call := fmt.Sprintf("SELECT reelay.disconnect('%s');", id)
		switch random.IntN(4) {
		case 0:
			script += "SAVEPOINT s;" + call + "ROLLBACK TO s;"
		case 1:
			script += "SAVEPOINT s;" + call + "RELEASE s;"
			names = append(names, id)
		default:
			script += call
			names = append(names, id)
		}
		script += fmt.Sprintf("SELECT pg_sleep(%f);", random.Float64()*random.Float64()*0.4)
	}
	if random.IntN(4) == 0 {
		return script + "ROLLBACK", nil
	}
	return script + "COMMIT", names
}

// A server that crashed may give ids again that it gave before, to transactions which nobody heard of. Here a row has
// the id of a transaction that is long over; a look at what is new cannot see it, and one by a new connection must.
func TestRevocations_AnotherServerProcessIsReadFromTheStart(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := loaded(t, s.url)
	s.exec(`SELECT reelay.disconnect('alice')`)
	l.hears(t, "alice")
	s.exec(`INSERT INTO reelay.revocation (xid, user_id, at, until) VALUES ('3', 'given again', clock_timestamp(), 'infinity')`)
	s.exec(`SELECT reelay.disconnect('marker')`)
	l.hears(t, "marker")
	if slices.Contains(l.names(), "given again") {
		t.Fatal("it reads everything each time: the test shows nothing")
	}
	s.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reelay' AND datname = current_database()`)
	l.hears(t, "given again")
	same(t, "heard, each once", l.names(), []string{"alice", "given again", "marker"})
}

// The schema is put back from a dump, while a replica runs: ids and transactions are other ones.
func TestRevocations_ARestoredLogIsReadFromTheStart(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	s := open(t)
	s.exec(`SELECT reelay.disconnect('alice')`)
	dump := tool(t, server, "", "pg_dump", "-d", s.url)
	l := loaded(t, s.url)
	s.exec(`SELECT reelay.disconnect('lost')`)
	l.hears(t, "lost")
	// At once, so that no look fails in between; with a row that no look at what is new can see.
	restore := "DROP SCHEMA reelay CASCADE;" + dump + `INSERT INTO reelay.revocation (xid, user_id, at, until) VALUES ('3', 'bob', clock_timestamp(), 'infinity')`
	tool(t, server, restore, "psql", "-1qX", "-v", "ON_ERROR_STOP=1", "-d", s.url)
	l.hears(t, "bob")
	s.exec(`SELECT reelay.disconnect('carol')`)
	l.hears(t, "carol")
	same(t, "heard, each once", l.names(), []string{"alice", "bob", "carol", "lost"})
}

func TestRevocations_SurvivesOutagesAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	url := server.New(t)
	server.Kill()
	l := hear(t, url)
	for i, mode := range []string{"", "fast", "immediate"} {
		if i == 0 {
			if l.Loaded() {
				t.Error("it says that all is loaded, and there is no Postgres")
			}
			eventually(t, "it has tried a few times", func() bool { return l.looks(t) >= 4 })
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else if err := server.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		s := connect(t, url)
		name := fmt.Sprint("after ", i)
		s.exec(`SELECT reelay.disconnect($1)`, name)
		l.hears(t, name)
		if !l.Loaded() {
			t.Errorf("%s: not loaded", name)
		}
	}
	same(t, "heard, each once", l.names(), []string{"after 0", "after 1", "after 2"})
	eventually(t, "it is well again", func() bool { return l.gauge(t, "reelay_revocations_age_seconds") < 0.5 })
	l.stop()
	began, ended := strings.Count(l.logged.String(), "revocations cannot be read"), strings.Count(l.logged.String(), "revocations are read again")
	if began != 3 || ended != 3 {
		t.Errorf("three outages were logged as %d that began and %d that ended:\n%s", began, ended, l.logged)
	}
}
