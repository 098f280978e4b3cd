package pg_test

import (
	"fmt"
	"testing"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
)

// No question reads a whole partition of the log or a whole table. It is asked so often that Postgres has settled on a
// plan for good, and the server's own counters are the witness.
func TestLog_QuestionsUseIndexes(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	narrow(s, 10_000)
	s.exec(`UPDATE reelay.state SET last_position = 10000; SELECT reelay.extend_log(); UPDATE reelay.state SET last_position = 20000; SELECT reelay.extend_log()`)
	s.exec(`
		INSERT INTO reelay.log SELECT i, 'u' || i % 500, i / 500 + 1, i, 'v' || i % 10, 'video.updated', '{"processing_status": "ready"}', now() FROM generate_series(0, 39999) i;
		INSERT INTO reelay.owner_head SELECT 'u' || i, 80 FROM generate_series(0, 20000) i;
		UPDATE reelay.state SET last_position = 39999;
		INSERT INTO videos SELECT 'v' || i, 'u' || i % 500 FROM generate_series(1, 20000) i;
		DELETE FROM reelay.outbox`)
	s.exec(`VACUUM ANALYZE reelay.log`)
	s.exec(`VACUUM ANALYZE reelay.owner_head, videos, reelay.outbox`)
	scans := func(kind string) int {
		t.Helper()
		return one[int](s, `SELECT coalesce(sum(`+kind+`), 0)::int FROM pg_stat_user_tables
			WHERE relname LIKE 'log\_%' OR relname = 'owner_head' OR relname = 'videos'`)
	}
	ctx := t.Context()
	for name, ask := range map[string]func(l *pg.Log, i int) error{
		"read": func(l *pg.Log, i int) error { _, err := l.Read(ctx, hub.Owner(fmt.Sprint("u", i)), 5, 100); return err },
		"tail": func(l *pg.Log, i int) error {
			_, err := l.Read(ctx, hub.Owner(fmt.Sprint("u", i)), 79, 100)
			return err
		},
		"newest": func(l *pg.Log, i int) error {
			_, err := l.Newest(ctx, hub.Owner(fmt.Sprint("u", i)), 70, 100)
			return err
		},
		"changes": func(l *pg.Log, i int) error { _, err := l.Changes(ctx, hub.Position(39990-i)); return err },
		"heads": func(l *pg.Log, i int) error {
			_, err := l.Heads(ctx, []hub.Owner{"u1", hub.Owner(fmt.Sprint("u", i))})
			return err
		},
		"snapshot": func(l *pg.Log, i int) error {
			_, err := l.Snapshot(ctx, hub.Owner(fmt.Sprint("u", i)), nil)
			return err
		},
		"keys": func(l *pg.Log, i int) error {
			_, err := l.Snapshot(ctx, hub.Owner(fmt.Sprint("u", i)), []string{fmt.Sprint("v", i), "v1"})
			return err
		},
	} {
		read, indexed := scans("seq_tup_read"), scans("idx_scan")
		t.Run(name, func(t *testing.T) { // its end closes the connections, and with that they tell what they did
			l := readLog(t, s.url)
			for i := range 40 { // on few connections: each has planned it more than five times
				if err := ask(l, i); err != nil {
					t.Fatal(err)
				}
			}
		})
		eventually(t, name+" is counted", func() bool { return scans("idx_scan") >= indexed+40 })
		if n := scans("seq_tup_read") - read; n > 0 {
			t.Errorf("%s: sequential scans have read %d rows", name, n)
		}
	}
}
