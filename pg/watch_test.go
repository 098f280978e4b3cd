package pg_test

import (
	"strings"
	"testing"

	"github.com/reelay/reelay/pg"
)

func TestWatch_CalledAgainChangesItsOptions(t *testing.T) {
	t.Parallel()
	s := open(t, videos, `ALTER TABLE videos ADD account text, ADD slug text, ADD progress int; CREATE UNIQUE INDEX ON videos (slug); SELECT reelay.watch('videos')`)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice', 'new', 'title', 'acme', 'slug-1', 0)`)
	s.captures(`alice v1 video.created {"processing_status": "new"}`)
	s.exec(`SELECT reelay.watch('videos', key => 'slug', owner => 'account', columns => '{progress}', payload => '{progress,title}', prefix => 'clip')`)
	s.captures()
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	s.exec(`UPDATE videos SET user_id = 'bob'`)
	s.exec(`UPDATE videos SET id = 'v2'`)
	s.captures()
	s.exec(`UPDATE videos SET progress = 1`)
	s.exec(`UPDATE videos SET account = 'other'`)
	s.exec(`UPDATE videos SET slug = 'slug-2'`)
	s.captures(
		`acme slug-1 clip.updated {"title": "title", "previous": {"progress": 0}, "progress": 1}`,
		`acme slug-1 clip.removed`, `other slug-1 clip.added {"title": "title", "progress": 1}`,
		`other slug-1 clip.deleted`, `other slug-2 clip.created {"title": "title", "progress": 1}`,
	)
	same(t, "snapshot", s.snapshot("other"), []string{`slug-2 {"title": "title", "progress": 1}`})
	same(t, "triggers", triggers(s), []string{"videos 00_reelay_row", "videos 00_reelay_truncate", "videos 00_reelay_update"})
	// What it gets is what it is told this time: nothing of an earlier call is left.
	s.exec(`SELECT reelay.watch('videos')`)
	s.exec(`UPDATE videos SET processing_status = 'failed', progress = 2`)
	s.captures(`bob v2 video.updated {"previous": {"processing_status": "ready"}, "processing_status": "failed"}`)
	same(t, "watched", s.lines(`SELECT concat_ws(' ', relation, key, owner, columns, payload, prefix) FROM reelay.watched`), []string{
		"videos id user_id {processing_status} {processing_status} video",
	})
}

// A writer that is under way keeps what it has captured, whatever is watched meanwhile.
func TestWatch_WaitsForWritersAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	writer := s.another()
	writer.exec(`BEGIN; INSERT INTO videos VALUES ('v1', 'alice')`)
	s.exec(`SET lock_timeout = '1min'`)
	done := make(chan error, 1)
	go func() { done <- s.try(`SELECT reelay.watch('videos', prefix => 'clip')`) }() // ends when the writer commits
	eventually(t, "watch waits", func() bool {
		return one[bool](writer, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'videos'::regclass)`)
	})
	writer.exec(`UPDATE videos SET processing_status = 'ready'; COMMIT`)
	if err := <-done; err != nil {
		t.Fatal(explain(err))
	}
	writer.exec(`UPDATE videos SET processing_status = 'failed'`)
	s.captures(
		`alice v1 video.created {"processing_status": "pending"}`,
		`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`,
		`alice v1 clip.updated {"previous": {"processing_status": "ready"}, "processing_status": "failed"}`,
	)
}

// A transaction that has written and stays open must not hold up all writers behind a watch that waits for it.
func TestWatch_DoesNotMakeWritersWaitForLong(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	forgotten, writer := s.another(), s.another()
	forgotten.exec(`BEGIN; INSERT INTO videos VALUES ('v1', 'alice')`)
	writer.exec(`SET statement_timeout = '20s'`)
	for _, timeout := range []string{"0", "50ms"} {
		s.exec(`SET lock_timeout = '` + timeout + `'; BEGIN; SAVEPOINT s`)
		refused := make(chan error, 1)
		go func() { refused <- s.try(`SELECT reelay.watch('videos', prefix => 'clip')`) }() // ends with the timeout
		writer.exec(`INSERT INTO videos VALUES ($1, 'alice')`, "during "+timeout)
		if err := <-refused; err == nil || !strings.HasPrefix(explain(err), "55P03 reelay.watch: public.videos is being written to by a transaction that does not end\n  hint: Nothing was changed: try again.") {
			t.Errorf("got %v", err)
		}
		s.exec(`ROLLBACK TO s`)
		if now := one[string](s, `SELECT current_setting('lock_timeout')`); now != timeout {
			t.Errorf("lock_timeout is %s, and was %s", now, timeout)
		}
		s.exec(`COMMIT`)
	}
	forgotten.exec(`COMMIT`)
	s.exec(`SET lock_timeout = 0; BEGIN; SELECT reelay.watch('videos', prefix => 'clip')`)
	if now := one[string](s, `SELECT current_setting('lock_timeout')`); now != "0" {
		t.Errorf("lock_timeout is %s afterwards, and was 0", now)
	}
	s.exec(`COMMIT; DELETE FROM reelay.outbox; DELETE FROM videos WHERE id = 'v1'`)
	s.captures(`alice v1 clip.deleted`)
}

func TestWatch_ManyTables(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `
		CREATE SCHEMA app;
		CREATE TABLE app.videos (id int PRIMARY KEY, user_id int, processing_status text, created_at timestamptz);
		CREATE TABLE clips (id int PRIMARY KEY, user_id text, processing_status text, updated_at timestamptz);
		SELECT reelay.watch('app.videos', prefix => 'film');
		SELECT reelay.watch('clips', prefix => 'clip');
		INSERT INTO videos VALUES ('v1', '7');
		INSERT INTO app.videos VALUES (1, 7, 'old', '2026-01-01');
		INSERT INTO clips VALUES (1, '7', 'newest', '2026-03-01'), (2, '7', 'newer', '2026-02-01');
		SET search_path = app, public;
		INSERT INTO videos VALUES (2, 7, 'older', '2025-01-01')`)
	s.captures(
		`7 v1 video.created {"processing_status": "pending"}`, `7 1 film.created {"processing_status": "old"}`,
		`7 1 clip.created {"processing_status": "newest"}`, `7 2 clip.created {"processing_status": "newer"}`,
		`7 2 film.created {"processing_status": "older"}`,
	)
	same(t, "snapshot", s.snapshot("7"), []string{
		`1 {"processing_status": "newest"}`, `2 {"processing_status": "newer"}`, `1 {"processing_status": "old"}`,
		`2 {"processing_status": "older"}`, `v1 {"processing_status": "pending"}`,
	})
	same(t, "snapshot of a user whose name is no number", s.snapshot("x"), nil)
	s.exec(`SELECT reelay.unwatch('videos')`) // app.videos, as the search_path says
	same(t, "still watched", s.lines(`SELECT relation::text FROM reelay.watched ORDER BY id`), []string{"public.videos", "clips"})
	s.exec(`DELETE FROM videos`)
	s.captures()
}

func TestUnwatch_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := open(t)
	functions := `SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'reelay'::regnamespace ORDER BY 1`
	before := s.lines(functions)
	s.exec(watched)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	s.exec(`SELECT reelay.unwatch('videos')`)
	s.exec(`UPDATE videos SET processing_status = 'ready'; DELETE FROM videos; TRUNCATE videos`)
	s.captures(`alice v1 video.created {"processing_status": "pending"}`) // was committed before
	same(t, "functions", s.lines(functions), before)
	same(t, "triggers", triggers(s), nil)
	same(t, "snapshot", s.snapshot("alice"), nil)
	s.exec(`SELECT reelay.watch('videos'); INSERT INTO videos VALUES ('v2', 'alice')`)
	s.captures(`alice v2 video.created {"processing_status": "pending"}`)
}

func TestWatch_ATableThatWasDroppedIsForgotten(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `
		CREATE TABLE clips (LIKE videos INCLUDING ALL);
		SELECT reelay.watch('clips');
		INSERT INTO videos VALUES ('v1', 'alice');
		INSERT INTO clips VALUES ('c1', 'alice');
		DROP TABLE videos`)
	same(t, "snapshot", s.snapshot("alice"), []string{`c1 {"processing_status": "pending"}`})
	s.exec(watched)
	same(t, "watched", s.lines(`SELECT relation::text FROM reelay.watched ORDER BY id`), []string{"clips", "videos"})
	same(t, "functions", s.lines(`SELECT proname::text FROM pg_proc WHERE proname ~ '^capture_[0-9]' ORDER BY 1`), []string{"capture_2", "capture_3"})
	s.exec(`DROP TABLE clips; SELECT reelay.unwatch('videos')`)
	same(t, "watched", s.lines(`SELECT relation::text FROM reelay.watched`), nil)
}

// pg_restore --clean of one table drops it and makes it anew, triggers and all, which call the functions of the old one.
func TestWatch_ATableThatWasRestoredAloneIsWatchedAgain(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	restored := one[string](s, `SELECT string_agg(pg_get_triggerdef(oid), ';') FROM pg_trigger WHERE tgrelid = 'videos'::regclass`)
	s.exec(`DROP TABLE videos`)
	s.exec(videos + restored)
	s.exec(`SELECT reelay.watch('videos', prefix => 'clip'); INSERT INTO videos VALUES ('v1', 'alice')`)
	s.captures(`alice v1 clip.created {"processing_status": "pending"}`)
	same(t, "snapshot", s.snapshot("alice"), []string{`v1 {"processing_status": "pending"}`})
	same(t, "triggers", triggers(s), []string{"videos 00_reelay_row", "videos 00_reelay_truncate", "videos 00_reelay_update"})
}

// After a rename of a column writers fail until reelay.watch is called again; one that is watched cannot be dropped.
func TestWatch_AgainAfterTheTableChanged(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice')`)
	if got := s.refused(`ALTER TABLE videos DROP processing_status`); !strings.Contains(got, "2BP01") {
		t.Errorf("got %s", got)
	}
	s.exec(`
		BEGIN;
		ALTER TABLE videos RENAME processing_status TO status;
		ALTER TABLE videos RENAME TO films;
		SELECT reelay.watch('films', columns => '{status}', prefix => 'film');
		COMMIT`)
	s.exec(`UPDATE films SET status = 'ready'`)
	s.captures(
		`alice v1 video.created {"processing_status": "pending"}`,
		`alice v1 film.updated {"status": "ready", "previous": {"status": "pending"}}`,
	)
	same(t, "snapshot", s.snapshot("alice"), []string{`v1 {"status": "ready"}`})
	if got := s.refused(`ALTER TABLE films ALTER status TYPE varchar(20)`); !strings.Contains(got, "0A000") {
		t.Errorf("got %s", got)
	}
	s.exec(`
		BEGIN;
		SELECT reelay.unwatch('films');
		ALTER TABLE films ALTER status TYPE varchar(20), ALTER id TYPE varchar(40);
		SELECT reelay.watch('films', columns => '{status}', payload => '{}');
		COMMIT`)
	s.exec(`UPDATE films SET status = 'failed'`)
	s.captures(`alice v1 video.updated {"previous": {"status": "ready"}}`)
}

func TestWatch_FromGo(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TABLE "Clips" (slug text, account bigint, "State" text, title text)`)
	warnings, err := pg.Watch(t.Context(), s.url, `"Clips"`, pg.WatchOptions{
		Key: "slug", Owner: "account", Prefix: "clip", Columns: []string{"State"}, Payload: []string{"title", "State"},
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "warnings", warnings, []string{
		`reelay.watch: no index begins with column account of public."Clips"` + "\n" +
			`  hint: A snapshot reads the rows of one owner: CREATE INDEX CONCURRENTLY ON public."Clips" (account).`,
		`reelay.watch: column slug of public."Clips" is not unique` + "\n" +
			"  hint: Two rows with one key look like one row to a client. Name the primary key by key =>.",
	})
	s.exec(`INSERT INTO "Clips" VALUES ('c1', 7, 'new', 'title')`)
	s.captures(`7 c1 clip.created {"State": "new", "title": "title"}`)
	s.exec(`CREATE UNIQUE INDEX ON "Clips" (slug); CREATE INDEX ON "Clips" (account, slug)`)
	warnings, err = pg.Watch(t.Context(), s.url, `"Clips"`, pg.WatchOptions{Key: "slug", Owner: "account", Columns: []string{"State"}})
	if err != nil || len(warnings) != 0 {
		t.Errorf("got %v, %v, want neither warning nor error", warnings, err)
	}
	if err := pg.Unwatch(t.Context(), s.url, `"Clips"`); err != nil {
		t.Fatal(err)
	}
	s.exec(`DELETE FROM "Clips"`)
	s.captures()
}

func triggers(s *session) []string {
	s.t.Helper()
	return s.lines(`SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname <> 'stamp' ORDER BY 1`)
}
