package pg_test

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (renew it by -update):\n got %s\nwant %s", path, got, want)
	}
}

// Every way to call it wrongly is told apart, and the hint says what to do. A call that is refused changes nothing.
func TestWatch_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `
		CREATE VIEW a_view AS SELECT * FROM videos;
		CREATE TEMP TABLE a_temporary_table (LIKE videos);
		CREATE TABLE odd (id text PRIMARY KEY, user_id text, processing_status text, previous text, place point, document json);
		CREATE TABLE empty ()`)
	before := s.lines(`SELECT w::text FROM reelay.watched w`)
	var got strings.Builder
	for _, sql := range []string{
		`SELECT reelay.watch('nothing')`,
		`SELECT reelay.watch('nowhere.videos')`,
		`SELECT reelay.watch(NULL)`,
		`SELECT reelay.watch('a b c')`,
		`SELECT reelay.watch('a_view')`,
		`SELECT reelay.watch('a_temporary_table')`,
		`SELECT reelay.watch('reelay.outbox')`,
		`SELECT reelay.watch('videos', key => 'uuid')`,
		`SELECT reelay.watch('videos', key => NULL)`,
		`SELECT reelay.watch('videos', owner => 'account_id')`,
		`SELECT reelay.watch('videos', owner => NULL)`,
		`SELECT reelay.watch('videos', columns => '{status}')`,
		`SELECT reelay.watch('videos', columns => '{processing_status,NULL}')`,
		`SELECT reelay.watch('videos', columns => '{}')`,
		`SELECT reelay.watch('videos', columns => NULL)`,
		`SELECT reelay.watch('videos', columns => '{ctid}')`,
		`SELECT reelay.watch('videos', payload => '{Title}')`,
		`SELECT reelay.watch('videos', payload => array_fill('title'::name, '{41}'))`,
		`SELECT reelay.watch('videos', prefix => 'Video')`,
		`SELECT reelay.watch('videos', prefix => 'reelay')`,
		`SELECT reelay.watch('videos', prefix => '')`,
		`SELECT reelay.watch('videos', prefix => NULL)`,
		`SELECT reelay.watch('videos', prefix => 'video.clip')`,
		`SELECT reelay.watch('empty')`,
		`SELECT reelay.watch('odd', payload => '{previous}')`,
		`SELECT reelay.watch('odd', columns => '{place}')`,
		`SELECT reelay.watch('odd', columns => '{document}')`,
		`SELECT reelay.watch('odd', owner => 'document')`,
		`SELECT reelay.unwatch('odd')`,
		`SELECT reelay.unwatch('nothing')`,
		`SELECT reelay.unwatch(NULL)`,
	} {
		got.WriteString(sql + "\n" + s.refused(sql) + "\n\n")
	}
	golden(t, "watch_errors.golden", got.String())
	same(t, "watched", s.lines(`SELECT w::text FROM reelay.watched w`), before)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	s.captures(`alice v1 video.created {"processing_status": "pending"}`)
}

func TestWatch_SaysWhichRightIsMissing(t *testing.T) {
	t.Parallel()
	// reelay migrate was run by a role that is no superuser, and the table belongs to another.
	s := connect(t, pgtest.Shared(t).NewEmpty(t))
	gateway, app := s.role("LOGIN"), s.role("LOGIN")
	s.exec(`GRANT CREATE ON DATABASE ` + one[string](s, `SELECT current_database()::text`) + ` TO ` + gateway)
	s.exec(`GRANT CREATE, USAGE ON SCHEMA public TO ` + app)
	migrate(t, login(s.url, gateway))
	s.as(app).exec(videos)
	var got strings.Builder
	step := func(by, sql string) {
		t.Helper()
		got.WriteString(sql + "\n" + s.as(by).refused(sql) + "\n\n")
	}
	step(gateway, `SELECT reelay.watch('videos')`)
	s.exec(`GRANT TRIGGER ON videos TO ` + gateway)
	step(gateway, `SELECT reelay.watch('videos')`)
	s.exec(`GRANT SELECT (id, user_id) ON videos TO ` + gateway)
	step(gateway, `SELECT reelay.watch('videos')`)
	s.exec(`GRANT SELECT (processing_status) ON videos TO ` + gateway)
	s.exec(`ALTER TABLE videos ENABLE ROW LEVEL SECURITY`)
	step(gateway, `SELECT reelay.watch('videos')`)
	s.exec(`ALTER TABLE videos DISABLE ROW LEVEL SECURITY`)
	step(app, `SELECT reelay.watch('videos')`)
	s.exec(`GRANT USAGE ON SCHEMA reelay TO ` + app + `; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA reelay TO ` + app)
	step(app, `SELECT reelay.watch('videos')`)
	golden(t, "watch_rights.golden", strings.NewReplacer(gateway, "gateway", app, "app").Replace(got.String()))

	s.as(gateway).exec(`SELECT reelay.watch('videos')`)
	writer := s.as(app)
	writer.exec(`INSERT INTO videos VALUES ('v1', 'alice'); UPDATE videos SET processing_status = 'ready'; TRUNCATE videos; INSERT INTO videos VALUES ('v2', 'alice')`)
	same(t, "snapshot", s.as(gateway).snapshot("alice"), []string{`v2 {"processing_status": "pending"}`})
	s.captures(
		`alice v1 video.created {"processing_status": "pending"}`,
		`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`,
		`alice v1 video.deleted`, `alice v2 video.created {"processing_status": "pending"}`,
	)
	for _, allow := range []string{`ALTER ROLE ` + gateway + ` BYPASSRLS`, `GRANT ` + app + ` TO ` + gateway} {
		s.exec(`ALTER TABLE videos ENABLE ROW LEVEL SECURITY`)
		s.exec(allow)
		s.as(gateway).exec(`SELECT reelay.watch('videos')`)
		same(t, "snapshot past row level security", s.as(gateway).snapshot("alice"), []string{`v2 {"processing_status": "pending"}`})
		s.exec(`ALTER ROLE ` + gateway + ` NOBYPASSRLS`)
	}
}

func TestWatch_ErrorsFromGoHaveTheHint(t *testing.T) {
	t.Parallel()
	s := open(t, videos)
	_, err := pg.Watch(t.Context(), s.url, "nothing", pg.WatchOptions{})
	if err == nil || !strings.Contains(err.Error(), "watch nothing: ") || !strings.Contains(err.Error(), "\n  hint: Name the schema too") {
		t.Errorf("got %v", err)
	}
	if errors.Is(err, pg.ErrNoSchema) {
		t.Errorf("a table that is missing is taken for the schema reelay: %v", err)
	}
	err = pg.Unwatch(t.Context(), s.url, "videos")
	if err == nil || !strings.Contains(err.Error(), "\n  hint: Watched are: no tables.") {
		t.Errorf("got %v", err)
	}
	empty := pgtest.Shared(t).NewEmpty(t)
	if _, err := pg.Watch(t.Context(), empty, "videos", pg.WatchOptions{}); !errors.Is(err, pg.ErrNoSchema) {
		t.Errorf("watch without the schema: got %v, want %v", err, pg.ErrNoSchema)
	}
	if err := pg.Unwatch(t.Context(), empty, "videos"); !errors.Is(err, pg.ErrNoSchema) {
		t.Errorf("unwatch without the schema: got %v, want %v", err, pg.ErrNoSchema)
	}
}
