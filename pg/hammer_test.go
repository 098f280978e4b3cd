package pg_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/hub"
)

// hammered is a table whose rows count their own changes: the row's lock makes the count the order of commits.
const hammered = `
CREATE TABLE videos (id text PRIMARY KEY, user_id text, n int NOT NULL DEFAULT 0, title text);
CREATE INDEX ON videos (user_id);
INSERT INTO videos SELECT 'v' || i, 'u' || i % 5 FROM generate_series(0, 19) i;
SELECT reelay.watch('videos', columns => '{n}');`

const hammeredRows, hammeredOwners = 20, 5

// hammer is many writers at work on the rows of hammered, with whatever a transaction may do: several rows, savepoints,
// rollbacks, changes of owner, events of the application's own, and transactions that stay open for a while.
type hammer struct {
	wait sync.WaitGroup

	mu    sync.Mutex
	ticks map[string]int // guarded by mu; how many ticks each writer has committed
	done  int            // guarded by mu; transactions, committed or not
	err   error          // guarded by mu; the first
}

// swing starts the writers. Each makes so many transactions, or goes on until ctx ends.
func swing(ctx context.Context, url string, writers, transactions int) *hammer {
	h := &hammer{ticks: map[string]int{}}
	for i := range writers {
		h.wait.Go(func() {
			if err := h.write(ctx, url, fmt.Sprint("w", i), transactions, rand.New(rand.NewPCG(1, uint64(i)))); err != nil && ctx.Err() == nil {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.err == nil {
					h.err = err
				}
			}
		})
	}
	return h
}

// finish waits for the writers.
func (h *hammer) finish(t testing.TB) {
	t.Helper()
	h.wait.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		t.Fatalf("a writer failed: %v", explain(h.err))
	}
}

func (h *hammer) write(ctx context.Context, url, name string, transactions int, random *rand.Rand) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for i := 0; i < transactions && ctx.Err() == nil; i++ {
		script, ticks := transaction(name, random)
		// One message, several statements: what an ORM sends one by one. A transaction that was sent is never cut off,
		// or nobody would know whether it was committed.
		if _, err := conn.Exec(context.WithoutCancel(ctx), script); err != nil {
			return fmt.Errorf("%s: %w", script, err)
		}
		h.mu.Lock()
		h.ticks[name] += ticks
		h.done++
		h.mu.Unlock()
	}
	return nil
}

// transaction makes up a transaction, and says how many ticks it leaves.
func transaction(name string, random *rand.Rand) (script string, ticks int) {
	var rows string // locked in order: two writers would deadlock by themselves otherwise
	for i := range 1 + random.IntN(3) {
		if i > 0 {
			rows += ", "
		}
		rows += fmt.Sprintf("'v%d'", random.IntN(hammeredRows))
	}
	tick := fmt.Sprintf("SELECT reelay.emit('%s', '%s', 'writer.tick');", name, name)
	bump := fmt.Sprintf("UPDATE videos SET n = n + 1 WHERE id IN (%s);", rows)
	script = "BEGIN;"
	if random.IntN(2) == 0 { // before the transaction has an id
		script += tick
		ticks++
	}
	script += fmt.Sprintf("SELECT FROM videos WHERE id IN (%s) ORDER BY id FOR UPDATE;", rows) + bump
	if random.IntN(3) == 0 {
		script += "SAVEPOINT s;" + bump + tick + "ROLLBACK TO s;"
	}
	if random.IntN(3) == 0 {
		script += "SAVEPOINT s;" + bump + tick + "RELEASE s;"
		ticks++
	}
	if random.IntN(4) == 0 {
		script += fmt.Sprintf("UPDATE videos SET user_id = 'u%d', n = n + 1 WHERE id IN (%s);", random.IntN(hammeredOwners), rows)
	}
	if random.IntN(4) == 0 {
		script += fmt.Sprintf("SELECT pg_sleep(%f);", random.Float64()/200)
	}
	if random.IntN(5) == 0 {
		return script + "ROLLBACK", 0
	}
	return script + "COMMIT", ticks
}

// check fails the test unless the events tell exactly what the writers did: of each row every count, in order, the
// last of them what the table says, to the owner of that moment; and each writer's ticks.
func (h *hammer) check(s *session, events []*hub.Event) {
	s.t.Helper()
	counts := map[string]int{}
	owners := map[string]hub.Owner{}
	removed := map[string]bool{}
	ticks := map[string]int{}
	for i := range hammeredRows {
		owners[fmt.Sprint("v", i)] = hub.Owner(fmt.Sprint("u", i%hammeredOwners))
	}
	for _, e := range events {
		if e.Type == "writer.tick" {
			ticks[e.Subject]++
			continue
		}
		if e.Type == "video.removed" {
			if e.Owner != owners[e.Subject] || removed[e.Subject] {
				s.t.Fatalf("%s: it is %s's", line(e), owners[e.Subject])
			}
			removed[e.Subject] = true
			continue
		}
		var data struct{ N int }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			s.t.Fatalf("%s: %v", line(e), err)
		}
		if data.N != counts[e.Subject]+1 {
			s.t.Fatalf("%s: comes after count %d of the row", line(e), counts[e.Subject])
		}
		counts[e.Subject] = data.N
		if (e.Type == "video.added") != removed[e.Subject] || e.Type == "video.updated" && e.Owner != owners[e.Subject] {
			s.t.Fatalf("%s: the row is %s's, removed %v", line(e), owners[e.Subject], removed[e.Subject])
		}
		owners[e.Subject], removed[e.Subject] = e.Owner, false
	}
	var got, want []string
	for i := range hammeredRows {
		id := fmt.Sprint("v", i)
		got = append(got, fmt.Sprint(id, " ", owners[id], " ", counts[id]))
		want = append(want, s.lines(`SELECT concat_ws(' ', id, user_id, n) FROM videos WHERE id = $1`, id)...)
	}
	same(s.t, "the rows, as the events tell", got, want)
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, n := range h.ticks {
		if ticks[name] != n {
			s.t.Errorf("%d ticks of %s came, %d were committed", ticks[name], name, n)
		}
	}
}
