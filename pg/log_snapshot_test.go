package pg_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/hub"
)

func keys(snapshot hub.Snapshot) []string {
	var found []string
	for _, row := range snapshot.Rows {
		found = append(found, row.Key)
	}
	return found
}

func TestLog_Snapshot(t *testing.T) {
	t.Parallel()
	s := open(t, `
		CREATE TABLE videos (id text PRIMARY KEY, user_id text, processing_status text, updated_at timestamptz);
		CREATE INDEX ON videos (user_id);
		SELECT reelay.watch('videos');
		INSERT INTO videos VALUES
			('v1', 'alice', 'old', '2026-01-01'), ('v2', 'alice', 'newest', '2026-03-01'), ('v3', 'bob', 'new', '2026-01-01'),
			('v4', 'alice', 'timeless', NULL), ('v5', 'alice', 'newer', '2026-02-01'), ('v6', '', 'x', NULL), ('v7', NULL, 'x', NULL);
		DELETE FROM reelay.outbox;
		INSERT INTO reelay.owner_head VALUES ('alice', 41)`)
	s.exec(`UPDATE videos SET processing_status = 'renewed' WHERE id IN ('v1', 'v3')`)
	l := readLog(t, s.url)
	for _, test := range []struct {
		owner hub.Owner
		keys  []string
		want  []string
	}{
		{"alice", nil, []string{"v2", "v5", "v1", "v4"}},
		{"alice", []string{"v1", "v5", "v3", "nothing"}, []string{"v5", "v1"}}, // v3 is bob's
		{"alice", []string{}, nil},
		{"alice", []string{"v1", "v1"}, []string{"v1"}},
		{"alice", []string{`{"v1"}`, `v1","v2`, "'", `\`, "\u2028"}, nil},
		{"bob", nil, []string{"v3"}},
		{"carol", nil, nil},
		{"", nil, nil},
	} {
		got, err := l.Snapshot(t.Context(), test.owner, test.keys)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("%s %q", test.owner, test.keys), keys(got), test.want)
		head, pending := hub.Sequence(0), []int64(nil)
		if test.owner == "alice" {
			head = 41
		}
		if test.owner == "alice" || test.owner == "bob" {
			pending = []int64{one[int64](s, `SELECT id FROM reelay.outbox WHERE owner = $1`, string(test.owner))}
		}
		if got.Head != head || !slices.Equal(got.Pending, pending) || got.Truncated || got.Log != one[string](s, `SELECT log FROM reelay.state`) {
			t.Errorf("%s: got head %d, pending %v, truncated %v, log %s; want head %d, pending %v", test.owner, got.Head, got.Pending, got.Truncated, got.Log, head, pending)
		}
	}
	got, err := l.Snapshot(t.Context(), "alice", []string{"v1"})
	if err != nil || string(got.Rows[0].Data) != `{"processing_status": "renewed"}` {
		t.Errorf("got %s, %v", got.Rows[0].Data, err)
	}
}

// At most a thousand rows, the newest, and it is said that there are more. Without a time the key stands for it.
func TestLog_SnapshotHoldsTheThousandNewest(t *testing.T) {
	t.Parallel()
	for name, column := range map[string]string{"by time": ", created_at timestamptz DEFAULT clock_timestamp()", "by key": ""} {
		s := open(t, `CREATE TABLE videos (id bigint PRIMARY KEY, user_id bigint, processing_status text`+column+`);
			CREATE INDEX ON videos (user_id);
			SELECT reelay.watch('videos');
			INSERT INTO videos SELECT i, i % 2 FROM generate_series(1, 2001) i ORDER BY i`)
		l := readLog(t, s.url)
		for owner, want := range map[hub.Owner]struct {
			newest, oldest string
			truncated      bool
		}{"0": {"2000", "2", false}, "1": {"2001", "3", true}} {
			got, err := l.Snapshot(t.Context(), owner, nil)
			if err != nil {
				t.Fatal(err)
			}
			found := keys(got)
			if len(found) != 1000 || got.Truncated != want.truncated || found[0] != want.newest || found[999] != want.oldest {
				t.Fatalf("%s, owner %s: got %d rows, truncated %v; want 1000 from %s to %s, truncated %v", name, owner, len(found), got.Truncated, want.newest, want.oldest, want.truncated)
			}
			for i := range 999 {
				if number(t, found[i]) != number(t, found[i+1])+2 {
					t.Fatalf("%s: %s comes before %s", name, found[i], found[i+1])
				}
			}
		}
	}
}

func number(t *testing.T, text string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A snapshot and the events after it are the table: whenever it is taken, while writers and the leader are at work.
func TestLog_ASnapshotAndWhatFollowsAreTheTable(t *testing.T) {
	t.Parallel()
	s := open(t, `
		CREATE TABLE videos (id text PRIMARY KEY, user_id text, n int);
		CREATE INDEX ON videos (user_id);
		SELECT reelay.watch('videos', columns => '{n}')`)
	b := &bus{}
	random := rand.New(rand.NewPCG(3, 3))
	// A leader that is slow at times, so that much is committed and has no number yet.
	b.meddle(func(ctx context.Context, _ string, _ hub.Batch) error {
		timer := time.NewTimer(rand.N(20 * time.Millisecond))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return nil
	})
	stand(t, s.url, b, "a")
	l := readLog(t, s.url)

	writing, enough := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for i := range 6 {
		wait.Go(func() {
			if err := churn(writing, s.url, rand.New(rand.NewPCG(4, uint64(i)))); err != nil {
				t.Errorf("a writer failed: %v", explain(err))
			}
		})
	}
	snapshots := map[hub.Owner][]hub.Snapshot{}
	pending := 0
	for range 80 {
		owner := hub.Owner(fmt.Sprint("u", random.IntN(3)))
		snapshot, err := l.Snapshot(t.Context(), owner, nil)
		if err != nil {
			t.Fatal(err)
		}
		snapshots[owner] = append(snapshots[owner], snapshot)
		pending += len(snapshot.Pending)
	}
	enough()
	wait.Wait()
	events := b.complete(s)
	if pending == 0 {
		t.Error("no snapshot had anything pending: the test shows too little")
	}
	for owner, list := range snapshots {
		want := map[string]string{}
		for _, row := range s.lines(`SELECT id || ' ' || n FROM videos WHERE user_id = $1`, string(owner)) {
			var id, n string
			if _, err := fmt.Sscan(row, &id, &n); err != nil {
				t.Fatal(err)
			}
			want[id] = n
		}
		for i, snapshot := range list {
			if got := replay(t, snapshot, owner, events); !maps.Equal(got, want) {
				t.Fatalf("%s, snapshot %d of %d, with head %d and pending %v, becomes\n     %v\nwant %v", owner, i, len(list), snapshot.Head, snapshot.Pending, got, want)
			}
		}
	}
}

// replay applies to a snapshot what follows it.
func replay(t *testing.T, snapshot hub.Snapshot, owner hub.Owner, events []*hub.Event) map[string]string {
	t.Helper()
	rows := map[string]string{}
	put := func(key string, data []byte) {
		var row struct{ N json.Number }
		if err := json.Unmarshal(data, &row); err != nil {
			t.Fatal(err)
		}
		rows[key] = row.N.String()
	}
	for _, row := range snapshot.Rows {
		put(row.Key, row.Data)
	}
	for _, e := range events {
		switch {
		case e.Owner != owner || e.Sequence <= snapshot.Head || slices.Contains(snapshot.Pending, e.OutboxID):
		case e.Data == nil:
			if _, there := rows[e.Subject]; !there {
				t.Fatalf("%s is of a row that the snapshot with head %d and pending %v does not have by then", line(e), snapshot.Head, snapshot.Pending)
			}
			delete(rows, e.Subject)
		default:
			put(e.Subject, e.Data)
		}
	}
	return rows
}

// churn inserts, changes, hands over and deletes rows until ctx ends, one or two in a transaction.
func churn(ctx context.Context, url string, random *rand.Rand) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for ctx.Err() == nil {
		script := "BEGIN;"
		first := random.IntN(10)
		for _, row := range []int{first, first + random.IntN(10-first)} { // in order, so that they cannot deadlock
			switch owner := random.IntN(3); random.IntN(4) {
			case 0:
				script += fmt.Sprintf("INSERT INTO videos VALUES ('v%d', 'u%d', 0) ON CONFLICT DO NOTHING;", row, owner)
			case 1:
				script += fmt.Sprintf("UPDATE videos SET user_id = 'u%d', n = n + 1 WHERE id = 'v%d';", owner, row)
			case 2:
				script += fmt.Sprintf("DELETE FROM videos WHERE id = 'v%d';", row)
			default:
				script += fmt.Sprintf("UPDATE videos SET n = n + 1 WHERE id = 'v%d';", row)
			}
		}
		if _, err := conn.Exec(context.WithoutCancel(ctx), script+[]string{"COMMIT", "COMMIT", "ROLLBACK"}[random.IntN(3)]); err != nil {
			return err
		}
	}
	return nil
}
