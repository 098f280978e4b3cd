package pg_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/reelay/reelay/pg"
)

// changing is a table with one column for each part that a column can have.
const changing = `
CREATE TABLE videos (id text PRIMARY KEY, user_id text, processing_status text, progress int, title text, raw json);
CREATE INDEX ON videos (user_id);
SELECT reelay.watch('videos', columns => '{processing_status,progress}', payload => '{processing_status,title,raw}');
INSERT INTO videos VALUES ('v1', 'alice', 'new', 0, 'one', '{}');
DELETE FROM reelay.outbox;`

// A table is changed, and nobody tells Reelay. Writers go on, in new sessions and in those that had everything planned,
// before the leader has mended it and after; and it is told.
func TestWatched_AChangedTableNeverFailsItsWriters(t *testing.T) {
	t.Parallel()
	const update, handOver, insert, remove = `UPDATE videos SET STATUS = 'ready' WHERE ID = 'v1'`, `UPDATE videos SET OWNER = 'bob' WHERE ID = 'v1'`,
		`INSERT INTO videos (ID, OWNER, STATUS) VALUES ('v2', 'carol', 'new')`, `DELETE FROM videos WHERE ID = 'v2'`
	all := []string{
		`alice v1 video.updated {"raw": {}, "title": "one", "previous": {"processing_status": "new"}, "processing_status": "ready"}`,
		`alice v1 video.removed`, `bob v1 video.added {"raw": {}, "title": "one", "processing_status": "ready"}`,
		`carol v2 video.created {"raw": null, "title": null, "processing_status": "new"}`, `carol v2 video.deleted`,
	}
	for name, test := range map[string]struct {
		change         string
		id, owner      string
		status, table  string
		rows           int // in a snapshot, where there are no events
		want           []string
		problems       []string
		afterMending   []string // nil where it is as before
		problemsMended []string // nil where they stay
	}{
		"nothing": {want: all},
		"watched column renamed": {
			change: `ALTER TABLE videos RENAME processing_status TO state`, status: "state", want: all,
			problems: []string{"column processing_status of public.videos is named state now; clients still get it as processing_status"},
		},
		"payload column renamed": {
			change: `ALTER TABLE videos RENAME title TO headline`, want: all,
			problems: []string{"column title of public.videos is named headline now; clients still get it as title"},
		},
		"owner column renamed": {
			change: `ALTER TABLE videos RENAME user_id TO account`, owner: "account", want: all,
			problems: []string{"column user_id of public.videos is named account now; clients still get it as user_id"},
		},
		"key column renamed": {
			change: `ALTER TABLE videos RENAME id TO slug`, id: "slug", want: all,
			problems: []string{"column id of public.videos is named slug now; clients still get it as id"},
		},
		"all of them, and the table": {
			change: `ALTER TABLE videos RENAME id TO slug; ALTER TABLE videos RENAME user_id TO account; ALTER TABLE videos RENAME processing_status TO state;
				ALTER TABLE videos RENAME TO films; CREATE VIEW videos AS SELECT * FROM films`,
			id: "slug", owner: "account", status: "state", table: "films", want: all,
			problems: []string{
				"column id of public.films is named slug now; clients still get it as id",
				"column processing_status of public.films is named state now; clients still get it as processing_status",
				"column user_id of public.films is named account now; clients still get it as user_id",
			},
		},
		"another column has the name": {
			change: `ALTER TABLE videos RENAME title TO old_title; ALTER TABLE videos ADD title text DEFAULT 'one'; ALTER TABLE videos ALTER title DROP DEFAULT`, want: all,
		},
		"payload column dropped": {
			change: `ALTER TABLE videos DROP title`, want: []string{
				`alice v1 video.updated {"raw": {}, "previous": {"processing_status": "new"}, "truncated": true, "processing_status": "ready"}`,
				`alice v1 video.removed`, `bob v1 video.added {"raw": {}, "truncated": true, "processing_status": "ready"}`,
				`carol v2 video.created {"raw": null, "truncated": true, "processing_status": "new"}`, `carol v2 video.deleted`,
			},
			problems: []string{"column title of public.videos is gone; changes are sent without it"},
		},
		"payload column of another type": {
			change: `ALTER TABLE videos ALTER title TYPE varchar(40)`, want: all,
		},
		"payload column of a type that is none of jsonb's": {
			change: `ALTER TABLE videos ALTER raw TYPE text`, want: strings.Split(strings.ReplaceAll(strings.Join(all, "|"), `"raw": {}`, `"raw": "{}"`), "|"),
		},
		"watched column dropped with what depends on it": {
			change: `ALTER TABLE videos DROP progress CASCADE`,
			want:   all[3:], afterMending: all, // the trigger for updates went with it
			problems:       []string{"column progress of public.videos is gone; changes are sent without it", "triggers of public.videos are missing or disabled (00_reelay_update); some of its changes are not sent"},
			problemsMended: []string{"column progress of public.videos is gone; changes are sent without it"},
		},
		"watched column made anew": {
			change: `ALTER TABLE videos DROP progress CASCADE; ALTER TABLE videos ADD progress bigint`,
			want:   all[3:], afterMending: all,
			problems:       []string{"triggers of public.videos are missing or disabled (00_reelay_update); some of its changes are not sent"},
			problemsMended: []string{},
		},
		"owner column dropped with what depends on it": {
			change: `ALTER TABLE videos RENAME user_id TO u; ALTER TABLE videos ADD account text; ALTER TABLE videos DROP u CASCADE`, owner: "account", want: nil,
			problems: []string{"column user_id of public.videos is gone; no change of the table is sent", "triggers of public.videos are missing or disabled (00_reelay_update); some of its changes are not sent"},
		},
		"key column dropped with what depends on it": {
			change: `ALTER TABLE videos DROP id CASCADE; ALTER TABLE videos ADD slug text; UPDATE videos SET slug = 'v1'`, id: "slug", want: nil,
			problems: []string{"column id of public.videos is gone; no change of the table is sent", "triggers of public.videos are missing or disabled (00_reelay_update); some of its changes are not sent"},
		},
		"update trigger dropped": {
			change: `DROP TRIGGER "00_reelay_update" ON videos`, want: all[3:], afterMending: all,
			problems:       []string{"triggers of public.videos are missing or disabled (00_reelay_update); some of its changes are not sent"},
			problemsMended: []string{},
		},
		"triggers disabled": {
			change: `ALTER TABLE videos DISABLE TRIGGER USER`, want: nil, rows: 1,
			problems: []string{"triggers of public.videos are missing or disabled (00_reelay_row, 00_reelay_update, 00_reelay_truncate); some of its changes are not sent"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, changing)
			old := s.another() // everything planned before the change
			names := strings.NewReplacer("ID", or(test.id, "id"), "OWNER", or(test.owner, "user_id"), "STATUS", or(test.status, "processing_status"))
			for range 7 { // more than a plan needs to be thought of as generic
				old.exec(`UPDATE videos SET processing_status = $1 WHERE id = $2`, "busy", "v1")
				old.exec(`UPDATE videos SET processing_status = $1 WHERE id = $2`, "new", "v1")
			}
			old.exec(`INSERT INTO videos VALUES ('v2', 'x', 'x'); DELETE FROM videos WHERE id = 'v2'`)
			s.exec(`DELETE FROM reelay.outbox`)
			if test.change != "" {
				s.exec(test.change)
			}
			s.exec(`DELETE FROM reelay.outbox`)
			write := func(s *session, want []string) {
				t.Helper()
				s.exec("BEGIN")
				for _, sql := range []string{update, handOver, insert, remove} {
					s.exec(names.Replace(sql))
				}
				s.captures(want...)
				s.exec("ROLLBACK")
			}
			write(old, test.want)
			write(s.another(), test.want)
			same(t, "problems", s.lines(`SELECT * FROM reelay.watch_problems()`), test.problems)
			s.exec(`SELECT reelay.mend_watched()`)
			if test.afterMending == nil {
				test.afterMending = test.want
			}
			if test.problemsMended == nil {
				test.problemsMended = test.problems
			}
			write(old, test.afterMending)
			write(s.another(), test.afterMending)
			same(t, "problems after mending", s.lines(`SELECT * FROM reelay.watch_problems()`), test.problemsMended)
			if n := one[int](s, `SELECT reelay.mend_watched()`); n != 0 {
				t.Errorf("mended again, %d", n)
			}
			// A snapshot has the row, unless nobody can tell whose it is; and it is no error.
			if rows, want := len(s.snapshot("alice")), min(1, len(test.afterMending)+test.rows); rows != want {
				t.Errorf("%d rows in a snapshot, want %d", rows, want)
			}
			s.exec("TRUNCATE " + or(test.table, "videos"))
			if len(test.want) > 0 {
				s.captures(`alice v1 video.deleted`)
			}
		})
	}
}

func or(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// The catalogs of a transaction in REPEATABLE READ are old: they know the table by its former names.
func TestWatched_AWriterWithAnOldSnapshot(t *testing.T) {
	t.Parallel()
	s := open(t, changing)
	writer := s.another()
	writer.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1`)
	s.exec(`ALTER TABLE videos RENAME user_id TO account; ALTER TABLE videos RENAME title TO headline`)
	writer.exec(`UPDATE videos SET processing_status = 'ready'`)
	writer.exec(`UPDATE videos SET account = 'bob'`)
	writer.exec(`COMMIT`)
	s.captures(
		`alice v1 video.updated {"raw": {}, "title": "one", "previous": {"processing_status": "new"}, "processing_status": "ready"}`,
		`alice v1 video.removed`, `bob v1 video.added {"raw": {}, "title": "one", "processing_status": "ready"}`,
	)
}

// In a table that was restored other columns may have the numbers: what is not certain is not sent.
func TestWatched_AColumnIsNotTakenForAnother(t *testing.T) {
	t.Parallel()
	s := open(t, changing)
	s.exec(`UPDATE reelay.watched SET identity = 'another table''s'`)
	s.exec(`ALTER TABLE videos RENAME title TO headline`)
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	s.captures(`alice v1 video.updated {"raw": {}, "previous": {"processing_status": "new"}, "truncated": true, "processing_status": "ready"}`)
}

// The leader mends with the rights of who serves, and says what there is to do, once.
func TestRelay_MendsWatchedTables(t *testing.T) {
	t.Parallel()
	s := open(t, changing)
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	s.exec(`ALTER TABLE videos RENAME title TO headline; ALTER TABLE videos DROP progress CASCADE`)
	blocker := s.another()
	blocker.exec(`BEGIN; UPDATE videos SET raw = NULL`) // a trigger cannot be made meanwhile, and nobody waits for that
	var logged strings.Builder
	r := stand(t, login(s.url, role), &bus{}, "a", func(c *pg.RelayConfig) { c.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
	eventually(t, "problems are counted", func() bool { return r.value("reelay_watch_problems") == 3 })
	s.exec(`SET lock_timeout = '2s'; UPDATE videos SET id = id WHERE false`)
	blocker.exec(`COMMIT`)
	eventually(t, "the trigger is there again", func() bool { return r.value("reelay_watch_problems") == 2 })
	r.stop()
	if n := strings.Count(logged.String(), "a watched table has changed"); n != 3 {
		t.Errorf("logged %d problems, want 3, each once:\n%s", n, logged.String())
	}
	if n := r.value("reelay_watch_problems"); n != 0 {
		t.Errorf("who does not lead any more counts %v problems", n)
	}
}
