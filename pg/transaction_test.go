package pg_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestCapture_WhatIsRolledBackLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	s.exec(`BEGIN; INSERT INTO videos VALUES ('v1', 'alice'); UPDATE videos SET processing_status = 'ready'; SELECT reelay.emit('alice', 'v1', 'video.progress', '1'); ROLLBACK`)
	s.captures()
	s.exec(`
		BEGIN;
		INSERT INTO videos VALUES ('v1', 'alice');
		SAVEPOINT one;
		UPDATE videos SET processing_status = 'undone';
		SELECT reelay.emit('alice', 'v1', 'video.progress', '"undone"');
		SAVEPOINT two;
		DELETE FROM videos;
		ROLLBACK TO one;
		UPDATE videos SET processing_status = 'ready';
		SAVEPOINT three;
		UPDATE videos SET user_id = 'bob';
		RELEASE three;
		COMMIT`)
	s.captures(
		`alice v1 video.created {"processing_status": "pending"}`,
		`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`,
		`alice v1 video.removed`, `bob v1 video.added {"processing_status": "ready"}`,
	)
	// An error that the application catches is a savepoint too.
	s.exec(`DO $$
		BEGIN
			BEGIN
				UPDATE videos SET processing_status = 'undone';
				RAISE division_by_zero;
			EXCEPTION WHEN division_by_zero THEN NULL;
			END;
			INSERT INTO videos VALUES ('v2', 'alice');
		END$$`)
	s.captures(`alice v2 video.created {"processing_status": "pending"}`)
}

func TestCapture_WritersOfEveryIsolationLevel(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"} {
		// Far apart, so that Postgres, which watches what SERIALIZABLE reads by the page, finds nothing in the table itself.
		s := open(t, videos, `INSERT INTO videos SELECT 'v' || i, 'u' || i FROM generate_series(10000, 49999) i`, `ANALYZE videos; SELECT reelay.watch('videos')`)
		// Four transactions that overlap, each with rows of its own: the table alone lets them all commit, and so must
		// what the triggers write and read.
		var writers []*session
		for i := range 4 {
			w := s.another()
			w.exec("BEGIN ISOLATION LEVEL " + level)
			w.exec(`SELECT FROM videos WHERE id = $1`, fmt.Sprint("v", i+1, "5000"))
			writers = append(writers, w)
		}
		for _, sql := range []string{
			`UPDATE videos SET processing_status = 'running' WHERE id = $1`,
			`SELECT reelay.emit('carol', $1, 'video.progress')`,
			`UPDATE videos SET user_id = 'carol' WHERE id = $1`,
		} {
			for i, w := range writers {
				w.exec(sql, fmt.Sprint("v", i+1, "5000"))
			}
		}
		for i := range writers {
			writers[len(writers)-1-i].exec("COMMIT")
		}
		same(t, level, s.lines(`SELECT concat_ws(' ', subject, string_agg(type, ' ' ORDER BY id)) FROM reelay.outbox GROUP BY subject ORDER BY 1`), []string{
			"v15000 video.updated video.progress video.removed video.added", "v25000 video.updated video.progress video.removed video.added",
			"v35000 video.updated video.progress video.removed video.added", "v45000 video.updated video.progress video.removed video.added",
		})
	}
}

func TestCapture_TruncateIsReportedOrRefused(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice'), ('v2', NULL), ('v3', 'bob')`)
	s.outbox()
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		s.exec("BEGIN ISOLATION LEVEL " + level)
		got := s.refused("TRUNCATE videos")
		want := "0A000 TRUNCATE of public.videos, which Reelay watches, in a " + strings.ToLower(level) + " transaction\n" +
			"  hint: It could miss rows newer than its snapshot. Use DELETE or READ COMMITTED, or call reelay.unwatch first."
		if got != want {
			t.Errorf("%s: got %s\nwant %s", level, got, want)
		}
		s.exec("ROLLBACK")
	}
	s.exec("BEGIN; TRUNCATE videos; ROLLBACK")
	s.captures()
	// What another transaction committed while this one waited for the table is reported as well.
	writer := s.another()
	writer.exec(`BEGIN; INSERT INTO videos VALUES ('v4', 'carol')`)
	done := make(chan error, 1)
	go func() { done <- s.another().try("TRUNCATE videos") }() // ends when the writer commits
	eventually(t, "TRUNCATE waits", func() bool {
		return one[bool](writer, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'videos'::regclass)`)
	})
	writer.exec("COMMIT")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", s.lines(`WITH taken AS (DELETE FROM reelay.outbox RETURNING *) SELECT subject || ' ' || type FROM taken ORDER BY subject, id`), []string{
		"v1 video.deleted", "v3 video.deleted", "v4 video.created", "v4 video.deleted",
	})
	s.exec("TRUNCATE videos")
	s.captures()
	s.exec("ALTER TABLE videos RENAME TO films; INSERT INTO films VALUES ('v5', 'alice'); TRUNCATE films")
	s.captures(`alice v5 video.created {"processing_status": "pending"}`, "alice v5 video.deleted")
}

func TestCapture_PartitionedTable(t *testing.T) {
	t.Parallel()
	s := open(t, `
		CREATE TABLE videos (id bigint, user_id bigint, processing_status text, year int, PRIMARY KEY (id, year)) PARTITION BY RANGE (year);
		CREATE INDEX ON videos (user_id);
		CREATE TABLE videos_2025 PARTITION OF videos FOR VALUES FROM (2025) TO (2026);
		SELECT reelay.watch('videos');
		SELECT reelay.watch('videos', columns => '{processing_status,year}');
		CREATE TABLE videos_2026 PARTITION OF videos FOR VALUES FROM (2026) TO (2027)`)
	s.exec(`INSERT INTO videos VALUES (1, 7, 'new', 2025), (2, 7, 'new', 2026)`)
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	s.exec(`UPDATE videos_2026 SET user_id = 8`)
	s.captures(
		`7 1 video.created {"year": 2025, "processing_status": "new"}`,
		`7 2 video.created {"year": 2026, "processing_status": "new"}`,
		`7 1 video.updated {"year": 2025, "previous": {"processing_status": "new"}, "processing_status": "ready"}`,
		`7 2 video.updated {"year": 2026, "previous": {"processing_status": "new"}, "processing_status": "ready"}`,
		`7 2 video.removed`, `8 2 video.added {"year": 2026, "processing_status": "ready"}`,
	)
	// Postgres moves a row to another partition by deleting and inserting it.
	s.exec(`UPDATE videos SET year = 2026 WHERE id = 1`)
	s.captures(`7 1 video.deleted`, `7 1 video.created {"year": 2026, "processing_status": "ready"}`)
	same(t, "snapshot", s.snapshot("7"), []string{`1 {"year": 2026, "processing_status": "ready"}`})
	s.exec(`TRUNCATE videos`)
	same(t, "truncated", s.lines(`WITH taken AS (DELETE FROM reelay.outbox RETURNING *) SELECT owner || ' ' || subject || ' ' || type FROM taken ORDER BY 1`), []string{
		"7 1 video.deleted", "8 2 video.deleted",
	})
	s.exec(`SELECT reelay.unwatch('videos'); INSERT INTO videos VALUES (3, 7, 'new', 2025)`)
	s.captures()
}
