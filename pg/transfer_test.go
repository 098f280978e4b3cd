package pg_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/hub"
)

// transferred is a table whose rows say in their payload whose they are, in the state that was committed: whoever else
// receives it has received what is none of theirs. n grows with each change of a row.
const transferred = `
CREATE TABLE videos (id text PRIMARY KEY, user_id text, n bigint NOT NULL, holder text GENERATED ALWAYS AS (user_id) STORED);
CREATE INDEX ON videos (user_id);
SELECT reelay.watch('videos', columns => '{n}', payload => '{n,holder}');`

const transferOwners, transferRows = 4, 8

// crowd is two replicas' hubs with sessions of all owners, on a bus that loses batches.
type crowd struct {
	t      *testing.T
	locals []*hub.Local
	hubs   []*hub.Hub

	mu     sync.Mutex
	random *rand.Rand // guarded by mu

	sessions []*viewer
	wait     sync.WaitGroup // of the sessions
}

// Publish hands a batch to each hub, or loses it.
func (c *crowd) Publish(ctx context.Context, batch hub.Batch) error {
	for _, local := range c.locals {
		c.mu.Lock()
		lost := c.random.IntN(8) == 0
		c.mu.Unlock()
		if !lost {
			_ = local.Publish(ctx, batch) // never fails
		}
	}
	return nil
}

// gather starts the hubs. They end with the test.
func gather(t *testing.T, url string) *crowd {
	t.Helper()
	c := &crowd{t: t, random: rand.New(rand.NewPCG(7, 7))}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range 2 {
		local := hub.NewLocal()
		h := hub.New(local, readLog(t, url), discard, hub.NewMetrics(nil))
		running.Go(func() {
			if err := h.Run(ctx); err != nil {
				t.Errorf("the hub: %v", err)
			}
		})
		c.locals, c.hubs = append(c.locals, local), append(c.hubs, h)
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	t.Cleanup(func() { // before the hubs end
		for _, v := range c.sessions {
			v.close()
		}
		c.wait.Wait()
	})
	return c
}

// viewer is one session of an owner: what it was given, folded together, and what was wrong with it.
type viewer struct {
	name    string
	owner   hub.Owner
	session *hub.Session
	awake   chan struct{}
	done    chan struct{}
	close   func()

	// All below is of one goroutine, until done is closed.
	rows map[string]int64
	err  error
}

// watch attaches a session of each owner to each hub.
func (c *crowd) watch(when string) {
	c.t.Helper()
	for i, h := range c.hubs {
		for o := range transferOwners {
			v := &viewer{owner: hub.Owner(fmt.Sprint("u", o)), awake: make(chan struct{}, 1), done: make(chan struct{}), rows: map[string]int64{}}
			v.name = fmt.Sprintf("%s's session on hub %d, %s", v.owner, i, when)
			ctx, cancel := context.WithTimeout(c.t.Context(), patience)
			var err error
			eventually(c.t, "the hub lets a session in", func() bool {
				v.session, err = h.Attach(ctx, v.owner, v.wake, hub.Options{})
				return !errors.Is(err, hub.ErrClosed) // it has not begun to run
			})
			if err != nil {
				c.t.Fatalf("%s: %v", v.name, err)
			}
			snapshot, _, err := v.session.Snapshot(ctx, nil)
			cancel()
			if err != nil {
				c.t.Fatalf("%s: %v", v.name, err)
			}
			for _, row := range snapshot.Rows {
				if err := v.put(row.Key, row.Data); err != nil {
					c.t.Fatalf("%s, snapshot: %v", v.name, err)
				}
			}
			v.close = sync.OnceFunc(func() { v.session.Close(); v.wake() })
			c.sessions = append(c.sessions, v)
			c.wait.Go(v.run)
		}
	}
}

func (v *viewer) wake() {
	select {
	case v.awake <- struct{}{}:
	default:
	}
}

// run takes events until the marker of the end, or the first that must not be.
func (v *viewer) run() {
	defer close(v.done)
	v.wake()
	for range v.awake {
		for {
			event, _, err := v.session.Next()
			if errors.Is(err, hub.ErrClosed) {
				return
			}
			if err == nil && event == nil {
				break
			}
			if err == nil && event.Type == "test.end" {
				return
			}
			if err == nil {
				err = v.take(event)
			}
			if err != nil {
				v.err = err
				return
			}
		}
	}
}

// take folds an event in, and refuses what its owner must not see at that place.
func (v *viewer) take(e *hub.Event) error {
	_, here := v.rows[e.Subject]
	kind := strings.TrimPrefix(e.Type, "video.")
	switch kind {
	case "removed", "deleted":
		if !here || len(e.Data) > 0 {
			return fmt.Errorf("%s, where the row is here: %v", line(e), here)
		}
		delete(v.rows, e.Subject)
		return nil
	case "added", "created":
		if here {
			return fmt.Errorf("%s: the row is here already", line(e))
		}
	case "updated":
		if !here {
			return fmt.Errorf("%s: the row is not here (any more)", line(e))
		}
	}
	if err := v.put(e.Subject, e.Data); err != nil {
		return fmt.Errorf("%s: %w", line(e), err)
	}
	return nil
}

func (v *viewer) put(id string, data []byte) error {
	var row struct {
		N      int64
		Holder hub.Owner
	}
	if err := json.Unmarshal(data, &row); err != nil {
		return err
	}
	if row.Holder != v.owner {
		return fmt.Errorf("a row that %s held came to %s", row.Holder, v.owner)
	}
	if before, here := v.rows[id]; here && row.N != before+1 {
		return fmt.Errorf("state %d comes after state %d", row.N, before)
	}
	v.rows[id] = row.N
	return nil
}

// transfers makes transactions that hand rows over, change, delete and make them.
func transfers(url string, transactions int, random *rand.Rand) error {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for range transactions {
		script := "BEGIN;"
		row := random.IntN(transferRows)
		for range 1 + random.IntN(3) { // in order, so that they cannot deadlock
			id := fmt.Sprint("v", row)
			row += random.IntN(transferRows - row)
			switch owner := random.IntN(transferOwners); random.IntN(8) {
			case 0:
				script += fmt.Sprintf("DELETE FROM videos WHERE id = '%s';", id)
			case 1:
				script += fmt.Sprintf("INSERT INTO videos VALUES ('%s', 'u%d', 0) ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, n = videos.n + 1;", id, owner)
			case 2, 3:
				script += fmt.Sprintf("UPDATE videos SET n = n + 1 WHERE id = '%s';", id)
			case 4: // away and back, or not at all
				script += fmt.Sprintf("SAVEPOINT s; UPDATE videos SET user_id = 'u%d', n = n + 1 WHERE id = '%s'; ROLLBACK TO s;", owner, id)
			case 5: // the new owner first, and then the state
				script += fmt.Sprintf("UPDATE videos SET user_id = 'u%d' WHERE id = '%s'; UPDATE videos SET n = n + 1 WHERE id = '%[2]s';", owner, id)
			default:
				script += fmt.Sprintf("UPDATE videos SET user_id = 'u%d', n = n + 1 WHERE id = '%s';", owner, id)
			}
		}
		end := []string{"COMMIT", "COMMIT", "COMMIT", "ROLLBACK"}[random.IntN(4)]
		if _, err := conn.Exec(context.Background(), script+end); err != nil {
			return fmt.Errorf("%s: %w", script, err)
		}
	}
	return nil
}

// Thousands of videos change hands while others update and delete them, on two replicas, by a bus that loses batches
// and under leaders that are ended. No payload reaches whoever does not hold the row in that state: the last that an
// owner hears of a row that is gone is its id. And what each owner has in the end is the table.
func TestTransfer_NobodyReceivesWhatIsAnothers(t *testing.T) {
	t.Parallel()
	s := open(t, transferred)
	c := gather(t, s.url)
	// Two that stand for leader, and publish to both hubs.
	leaders := [2]*bus{{}, {}}
	for i, b := range leaders {
		b.meddle(func(ctx context.Context, _ string, batch hub.Batch) error { return c.Publish(ctx, batch) })
		stand(t, s.url, b, fmt.Sprint("r", i))
	}
	// The first leader gives the log its name: a session from before would lose its place.
	eventually(t, "there is a leader", func() bool { return one[int](s, `SELECT epoch FROM reelay.state`) > 0 })
	c.watch("from the start")

	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			if err := transfers(s.url, 1200, rand.New(rand.NewPCG(8, uint64(i)))); err != nil {
				t.Errorf("a writer failed: %v", explain(err))
			}
		})
	}
	written := make(chan struct{})
	go func() { writers.Wait(); close(written) }() // ends with the writers
	c.watch("from the middle")
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
			s.exec(`SELECT pg_terminate_backend(pid) FROM (` + leaderPID + `) leader`)
		case <-written:
			ended = true
		}
	}
	for o := range transferOwners {
		s.exec(`SELECT reelay.emit($1, 'end', 'test.end')`, fmt.Sprint("u", o))
	}
	for _, v := range c.sessions {
		select {
		case <-v.done:
		case <-time.After(patience):
			t.Fatalf("%s does not come to the end", v.name)
		}
		if v.err != nil {
			t.Fatalf("%s: %v", v.name, v.err)
		}
		var got []string
		for o := range transferRows {
			if n, here := v.rows[fmt.Sprint("v", o)]; here {
				got = append(got, fmt.Sprint("v", o, " ", n))
			}
		}
		same(t, v.name, got, s.lines(`SELECT id || ' ' || n FROM videos WHERE user_id = $1 ORDER BY id`, string(v.owner)))
	}
	handed, epoch := one[int](s, `SELECT count(*) FROM reelay.log WHERE type = 'video.added'`), one[int](s, `SELECT epoch FROM reelay.state`)
	t.Logf("%d rows changed hands, under %d leaders", handed, epoch)
	if handed < 2000 {
		t.Error("the test shows too little")
	}
}
