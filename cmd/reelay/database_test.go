package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/pg"
)

const databaseSetting = "REELAY_DATABASE_URL=postgres://owner:hunter2@db/app"

func failingDatabase(err error) database {
	return database{
		migrate: func(context.Context, string, *slog.Logger, func(int64, string, time.Duration)) (int, error) {
			return 0, err
		},
		status: func(context.Context, string) ([]pg.MigrationState, error) { return nil, err },
		grantServe: func(context.Context, string, string) error {
			return err
		},
		watch:   func(context.Context, string, string, pg.WatchOptions) ([]string, error) { return nil, err },
		unwatch: func(context.Context, string, string) error { return err },
	}
}

// expectURL fails unless the command called the database that its settings name.
func expectURL(t *testing.T, url string) {
	t.Helper()
	if url != "postgres://owner:hunter2@db/app" {
		t.Errorf("database URL: got %q", url)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	names := []string{"00001_log.sql", "00002_watch.sql"}
	migrate := func(pending int, err error) func(context.Context, string, *slog.Logger, func(int64, string, time.Duration)) (int, error) {
		return func(ctx context.Context, url string, log *slog.Logger, progress func(int64, string, time.Duration)) (int, error) {
			expectURL(t, url)
			log.DebugContext(ctx, "not shown")
			log.WarnContext(ctx, "shown")
			for i, name := range names[:pending] {
				progress(int64(i+1), name, 12345*time.Microsecond)
			}
			return pending, err
		}
	}
	granted := ""
	grant := func(_ context.Context, url, role string) error {
		expectURL(t, url)
		granted = role
		return nil
	}
	for _, test := range []struct {
		args    []string
		pending int
		err     error
		want    string
		granted string
	}{
		{nil, 2, nil, "applied  00001_log.sql (12ms)\napplied  00002_watch.sql (12ms)\n2 migrations applied\n", ""},
		{nil, 1, nil, "applied  00001_log.sql (12ms)\n1 migration applied\n", ""},
		{nil, 0, nil, "the schema is up to date\n", ""},
		{[]string{"--serve-role", "reelay"}, 0, nil, "the schema is up to date\nrole reelay may serve\n", "reelay"},
		{[]string{"--serve-role", "reelay"}, 1, errors.New("disk full"), "applied  00001_log.sql (12ms)\n", ""},
	} {
		granted = ""
		p := &program{database: database{migrate: migrate(test.pending, test.err), grantServe: grant}}
		got := runProgram(t, p, []string{databaseSetting}, append([]string{"migrate"}, test.args...)...)
		wantCode := exitOK
		if test.err != nil {
			wantCode = exitFailure
		}
		if got.stdout != test.want || got.code != wantCode || granted != test.granted {
			t.Errorf("%v with %d pending: got %q, exit code %d, granted %q; want %q, %d, %q",
				test.args, test.pending, got.stdout, got.code, granted, test.want, wantCode, test.granted)
		}
		if !strings.Contains(got.stderr, "msg=shown") || strings.Contains(got.stderr, "not shown") {
			t.Errorf("standard error: got %q, want warnings and no more", got.stderr)
		}
	}
}

func TestMigrate_ShowsWhatIsPending(t *testing.T) {
	t.Parallel()
	for applied, want := range []string{
		"pending  00001_log.sql\npending  00002_watch.sql\n2 migrations pending: run reelay migrate\n",
		"applied  00001_log.sql\npending  00002_watch.sql\n1 migration pending: run reelay migrate\n",
		"applied  00001_log.sql\napplied  00002_watch.sql\nthe schema is up to date\n",
	} {
		p := &program{database: database{status: func(_ context.Context, url string) ([]pg.MigrationState, error) {
			expectURL(t, url)
			return []pg.MigrationState{
				{Version: 1, Name: "00001_log.sql", Applied: applied > 0}, {Version: 2, Name: "00002_watch.sql", Applied: applied > 1},
			}, nil
		}}}
		if got := runProgram(t, p, []string{databaseSetting}, "migrate", "--status"); got.stdout != want || got.code != exitOK {
			t.Errorf("got %q, exit code %d; want %q, 0", got.stdout, got.code, want)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	var table string
	var options pg.WatchOptions
	p := &program{database: database{watch: func(_ context.Context, url, name string, o pg.WatchOptions) ([]string, error) {
		expectURL(t, url)
		table, options = name, o
		return []string{"no index on user_id"}, nil
	}}}
	got := runProgram(t, p, []string{databaseSetting}, "watch", "videos")
	if got.stdout != "watching videos\n" || got.stderr != "reelay: warning: no index on user_id\n" || got.code != exitOK {
		t.Errorf("got %+v", got)
	}
	if want := (pg.WatchOptions{}); fmt.Sprintf("%#v", options) != fmt.Sprintf("%#v", want) || table != "videos" {
		t.Errorf("watch videos: called with %s, %#v; want every option left to the database", table, options)
	}
	runProgram(t, p, []string{databaseSetting}, "watch", "media.clips", "--key", "uuid", "--owner", "account",
		"--columns", "state,title", "--payload", "state,title,duration", "--prefix", "clip")
	want := pg.WatchOptions{
		Key: "uuid", Owner: "account", Prefix: "clip", Columns: []string{"state", "title"}, Payload: []string{"state", "title", "duration"},
	}
	if fmt.Sprintf("%#v", options) != fmt.Sprintf("%#v", want) || table != "media.clips" {
		t.Errorf("called with %s, %#v; want media.clips, %#v", table, options, want)
	}
}

func TestUnwatch(t *testing.T) {
	t.Parallel()
	p := &program{database: database{unwatch: func(_ context.Context, url, table string) error {
		expectURL(t, url)
		if table != "videos" {
			t.Errorf("table: got %q", table)
		}
		return nil
	}}}
	if got := runProgram(t, p, []string{databaseSetting}, "unwatch", "videos"); got.stdout != "no longer watching videos\n" || got.code != exitOK {
		t.Errorf("got %+v", got)
	}
}

func TestDatabaseCommands_SayWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"migrate"}, {"migrate", "--status"}, {"watch", "videos"}, {"unwatch", "videos"}} {
		p := &program{database: failingDatabase(errors.New("no such table\n  hint: look again"))}
		got := runProgram(t, p, []string{databaseSetting}, args...)
		if got.stderr != "reelay: no such table\n  hint: look again\n" || got.code != exitFailure || got.stdout != "" {
			t.Errorf("%v: got %+v", args, got)
		}
		if got := runProgram(t, p, nil, args...); got.code != exitUsage || !strings.Contains(got.stderr, "REELAY_DATABASE_URL (--database-url): is not set") {
			t.Errorf("%v without a database: got %+v", args, got)
		}
	}
}
