package pg_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/migrations"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

func TestMigrate_AppliesEachFileOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Shared(t).NewEmpty(t)
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	states := func() (lines []string) {
		t.Helper()
		all, err := pg.MigrationStatus(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			lines = append(lines, fmt.Sprint(s.Version, " ", s.Name, " ", s.Applied))
		}
		return lines
	}
	var before, after []string
	for i, file := range files {
		before = append(before, fmt.Sprint(i+1, " ", file, " false"))
		after = append(after, fmt.Sprint(i+1, " ", file, " true"))
	}
	same(t, "status before", states(), before)
	if one[bool](connect(t, url), `SELECT to_regnamespace('reelay') IS NOT NULL`) {
		t.Error("asking for the status made the schema")
	}
	// Several at once, as when all replicas are deployed together: one does it, and the others wait.
	var wait sync.WaitGroup
	applied := make([]int, 8)
	for i := range applied {
		wait.Go(func() {
			n, err := pg.Migrate(t.Context(), url, discard, nil)
			if err != nil {
				t.Errorf("migrate: %v", err)
			}
			applied[i] = n
		})
	}
	wait.Wait()
	slices.Sort(applied)
	if !slices.Equal(applied, append(make([]int, len(applied)-1), len(files))) {
		t.Errorf("applied %v, want all %d by one of them", applied, len(files))
	}
	same(t, "status after", states(), after)
}

func TestMigrate_TellsItsProgress(t *testing.T) {
	t.Parallel()
	var told []string
	n, err := pg.Migrate(t.Context(), pgtest.Shared(t).NewEmpty(t), discard, func(version int64, name string, _ time.Duration) {
		told = append(told, fmt.Sprint(version, " ", name))
	})
	if err != nil || len(told) != n || n == 0 || !strings.HasPrefix(told[0], "1 00001_") {
		t.Errorf("got %d, %v, told %v", n, err, told)
	}
}

// The way down exists for development: it leaves nothing, with tables watched, and the way up works again.
func TestMigrate_DownAndUpAgain(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice'); CREATE TABLE clips (LIKE videos); SELECT reelay.watch('clips'); DROP TABLE clips`)
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	for _, file := range files {
		content, err := fs.ReadFile(migrations.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		_, down, _ := strings.Cut(string(content), "-- +goose Down")
		s.exec(down)
	}
	same(t, "left in the schema", s.lines(`
		SELECT relname::text FROM pg_class WHERE relnamespace = 'reelay'::regnamespace AND relname NOT LIKE 'migration%'
		UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'reelay'::regnamespace`), nil)
	same(t, "triggers", triggers(s), nil)
	s.exec(`DROP SCHEMA reelay CASCADE; UPDATE videos SET processing_status = 'ready'`)
	migrate(t, s.url)
	s.exec(`SELECT reelay.watch('videos'); DELETE FROM videos`)
	s.captures(`alice v1 video.deleted`)
}

// An index of the log is made anew while events are written, numbered and read: none is lost, and all partitions have
// the new one in place of the old, those that were full, the one that was being filled, and those to come.
func TestMigrate_IndexOfALogInUse(t *testing.T) {
	t.Parallel()
	s := open(t)
	narrow(s, 2000)
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	for _, file := range files[:slices.Index(files, "00009_owner_head_bytes.sql")+1] {
		content, err := fs.ReadFile(migrations.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		_, down, _ := strings.Cut(string(content), "-- +goose Down")
		s.exec(down)
	}
	s.exec(`DELETE FROM reelay.migration WHERE version_id >= 9`)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	const emit = `SELECT reelay.emit('user-' || i % 10, 'v1', 'video.progress') FROM generate_series(1, $1) i`
	for n := 1; n <= 7; n++ {
		s.exec(emit, 500)
		eventually(t, "they are published", func() bool { return b.head() == hub.Position(500*n) })
		s.exec(`SELECT reelay.extend_log()`) // a leader has a second for so much
	}
	indexes := func() []string {
		return s.lines(`SELECT x.indrelid::regclass || ' ' || o.opcname FROM pg_index x
			JOIN pg_class c ON c.oid = x.indrelid AND c.relnamespace = 'reelay'::regnamespace AND c.relname ~ '^log(_[0-9]+)?$'
			JOIN pg_opclass o ON o.oid = x.indclass[0] WHERE x.indnatts = 2 AND x.indisvalid ORDER BY c.relname`)
	}
	want := func(opclass string) (lines []string) {
		for _, name := range append([]string{"log"}, partitions(s)...) {
			lines = append(lines, fmt.Sprint("reelay.", name, " ", opclass))
		}
		return lines
	}
	same(t, "indexes before", indexes(), want("text_ops"))

	var migrated atomic.Bool
	var writing sync.WaitGroup
	writer, n := s.another(), 3500
	writing.Go(func() {
		for last := false; !last; n += 10 {
			last = migrated.Load()
			if err := writer.try(emit, 10); err != nil {
				t.Errorf("a writer, meanwhile: %v", err)
				return
			}
		}
	})
	_, err = pg.Migrate(t.Context(), s.url, discard, nil)
	migrated.Store(true)
	writing.Wait()
	if err != nil {
		t.Fatalf("migrate: %v", err)
	}
	eventually(t, "all are published", func() bool { return b.head() == hub.Position(n) })
	if got := len(b.complete(s)); got != n {
		t.Errorf("got %d events, want %d", got, n)
	}
	eventually(t, "partitions lie ahead", func() bool { return len(partitions(s)) == n/2000+3 })
	same(t, "indexes after", indexes(), want("text_pattern_ops"))
	page, err := readLog(t, s.url).Read(t.Context(), "user-3", 5, 10)
	if err != nil || len(page.Events) != 10 || page.Events[0].Sequence != 6 {
		t.Errorf("read: %v, %v", page.Events, err)
	}
}

// The functions of watched tables are made anew, which somebody may be doing at the same moment.
func TestMigrate_BesideAnOpenWatch(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	s.exec(`DELETE FROM reelay.migration WHERE version_id >= 11`)
	other := s.another()
	begin := func() {
		other.exec(`BEGIN; SELECT reelay.watch('videos', columns => '{processing_status,title}')`)
	}
	begin()
	if _, err := pg.Migrate(t.Context(), s.url, discard, nil); err == nil || !strings.Contains(err.Error(), "run reelay migrate again") {
		t.Errorf("behind one that does not end: got %v, want to be told to try again", err)
	}
	other.exec(`ROLLBACK`)
	begin()
	migrated := make(chan error, 1)
	go func() {
		_, err := pg.Migrate(t.Context(), s.url, discard, nil)
		migrated <- err
	}()
	eventually(t, "the migration waits", func() bool {
		return one[bool](s, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	})
	other.exec(`COMMIT`)
	if err := <-migrated; err != nil {
		t.Fatalf("behind one that ends: %v", err)
	}
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	s.outbox()
	s.exec(`UPDATE videos SET title = 'new'`)
	s.captures(`alice v1 video.updated {"title": "new", "previous": {"title": null}, "processing_status": "pending"}`)
}

func TestMigrate_ErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	s := connect(t, pgtest.Shared(t).NewEmpty(t))
	role := s.role("LOGIN")
	_, err := pg.Migrate(t.Context(), login(s.url, role), discard, nil)
	if err == nil || !strings.Contains(err.Error(), "create schema reelay: ") || pg.Transient(err) {
		t.Errorf("a role without rights: got %v", err)
	}
	l, openErr := pg.OpenLog(t.Context(), s.url, pg.NewMetrics(nil))
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer l.Close()
	if err := l.Check(t.Context()); !errors.Is(err, pg.ErrNoSchema) || pg.Transient(err) {
		t.Errorf("check without the schema: got %v, want %v", err, pg.ErrNoSchema)
	}
	migrate(t, s.url)
	if err := l.Check(t.Context()); err != nil {
		t.Errorf("check with the schema: %v", err)
	}
	s.exec(`ALTER TABLE reelay.state DROP generation`)
	if err := l.Check(t.Context()); !errors.Is(err, pg.ErrNoSchema) || pg.Transient(err) {
		t.Errorf("check of a schema that is older: got %v, want %v", err, pg.ErrNoSchema)
	}
}

// A database URL holds a password, and an error about it ends up in a log.
func TestErrors_HideTheDatabaseURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://user:secret@host:port/db", "postgres://user:secret@host/db?sslmode=secret", "user=u password=secret port=x", "://secret", "postgres://user:sec%ret@host/db",
	} {
		_, migrateErr := pg.Migrate(t.Context(), url, discard, nil)
		_, watchErr := pg.Watch(t.Context(), url, "videos", pg.WatchOptions{})
		_, logErr := pg.OpenLog(t.Context(), url, pg.NewMetrics(nil))
		for _, err := range []error{migrateErr, watchErr, logErr} {
			if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%ret") || !strings.Contains(err.Error(), "database URL") {
				t.Errorf("%s: got %v", url, err)
			}
		}
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	answer := func(code string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code}) }
	for want, errs := range map[bool][]error{
		true:  {errors.New("connection refused"), answer("57P03"), answer("53300"), answer("40001"), answer("08006"), answer("5"), answer("")},
		false: {pg.ErrPooler, fmt.Errorf("x: %w", pg.ErrNoSchema), answer("28P01"), answer("3D000"), answer("42501"), answer("42P01"), answer("3F000")},
	} {
		for _, err := range errs {
			if got := pg.Transient(err); got != want {
				t.Errorf("%v: got %v, want %v", err, got, want)
			}
		}
	}
}
