package pg_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// patience is how long a test waits for what must happen. It is generous: the machine may be busy with other tests.
const patience = 30 * time.Second

// videos is the table of most tests, as an application might have it.
const videos = `
CREATE TABLE videos (
	id text PRIMARY KEY,
	user_id text,
	processing_status text NOT NULL DEFAULT 'pending',
	title text
);
CREATE INDEX ON videos (user_id);`

// watched is videos, watched with the defaults.
const watched = videos + `SELECT reelay.watch('videos');`

// session is one connection of a test to its database.
type session struct {
	t    testing.TB
	url  string
	conn *pgx.Conn
}

// open makes a fresh database, runs setup in it, and returns a session of its superuser.
func open(t testing.TB, setup ...string) *session {
	t.Helper()
	s := connect(t, pgtest.New(t))
	for _, sql := range setup {
		s.exec(sql)
	}
	return s
}

func connect(t testing.TB, url string) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return &session{t: t, url: url, conn: conn}
}

// another returns a second session in the same database.
func (s *session) another() *session {
	s.t.Helper()
	return connect(s.t, s.url)
}

// as returns a session in the same database whose current_user is role.
func (s *session) as(role string) *session {
	s.t.Helper()
	other := s.another()
	other.exec("SET ROLE " + role)
	return other
}

// roles counts the roles made in this test process: they are the server's, not the database's.
var roles atomic.Int64

// role makes a role with a name of its own. It has no rights but those that everybody has.
func (s *session) role(options string) string {
	s.t.Helper()
	name := "role_" + strconv.FormatInt(roles.Add(1), 10)
	s.exec("CREATE ROLE " + name + " " + options)
	return name
}

// login returns a database's URL for another user.
func login(databaseURL, role string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err)
	}
	u.User = url.User(role)
	return u.String()
}

func migrate(t testing.TB, url string) {
	t.Helper()
	if _, err := pg.Migrate(context.Background(), url, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatalf("migrate: %v", err)
	}
}

func (s *session) exec(sql string, args ...any) {
	s.t.Helper()
	if err := s.try(sql, args...); err != nil {
		s.t.Fatalf("%s\n%v", sql, explain(err))
	}
}

// try is exec for what may fail.
func (s *session) try(sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.conn.Exec(ctx, sql, args...)
	return err
}

// refused runs what the server must refuse, and returns its answer as SQLSTATE, message and hint.
func (s *session) refused(sql string, args ...any) string {
	s.t.Helper()
	err := s.try(sql, args...)
	if err == nil {
		s.t.Fatalf("%s\nsucceeded, and must not", sql)
	}
	return explain(err)
}

func explain(err error) string {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return err.Error()
	}
	text := answer.Code + " " + answer.Message
	if answer.Hint != "" {
		text += "\n  hint: " + answer.Hint
	}
	return text
}

// lines returns the rows of a query with one text column.
func (s *session) lines(sql string, args ...any) []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rows, err := s.conn.Query(ctx, sql, args...)
	if err == nil {
		var found []string
		if found, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return found
		}
	}
	s.t.Fatalf("%s\n%v", sql, explain(err))
	return nil
}

// one returns the single value of a query.
func one[T any](s *session, sql string, args ...any) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var value T
	if err := s.conn.QueryRow(ctx, sql, args...).Scan(&value); err != nil {
		s.t.Fatalf("%s\n%v", sql, explain(err))
	}
	return value
}

// node is a step of a plan that was executed.
type node struct {
	Type    string  `json:"Node Type"`
	Rows    float64 `json:"Actual Rows"` // each time
	Loops   float64 `json:"Actual Loops"`
	Dropped float64 `json:"Rows Removed by Join Filter"`
	Hit     int     `json:"Shared Hit Blocks"` // by those below, too
	Read    int     `json:"Shared Read Blocks"`
	Plans   []node
}

// plan executes a statement and returns the last step of its plan: those below were done before.
func (s *session) plan(sql string) node {
	s.t.Helper()
	var answer []struct{ Plan node }
	if err := json.Unmarshal(one[[]byte](s, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql), &answer); err != nil {
		s.t.Fatalf("read the plan of %s: %v", sql, err)
	}
	return answer[0].Plan
}

// outbox returns what was captured, one "owner subject type data" a line, and empties the outbox.
func (s *session) outbox() []string {
	s.t.Helper()
	return s.lines(`
		WITH taken AS (DELETE FROM reelay.outbox RETURNING *)
		SELECT concat_ws(' ', owner, subject, type, data) FROM taken ORDER BY id`)
}

// captures checks what the outbox holds, and empties it.
func (s *session) captures(want ...string) {
	s.t.Helper()
	same(s.t, "the outbox", s.outbox(), want)
}

// snapshot returns the rows of an owner, one "key data" a line.
func (s *session) snapshot(owner string) []string {
	s.t.Helper()
	return s.lines("SELECT key || ' ' || data FROM reelay.snapshot($1, NULL, 1000)", owner)
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

// socket returns a database's URL over the server's unix socket.
func socket(t testing.TB, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return pgtest.Shared(t).SocketURL(strings.TrimPrefix(u.Path, "/"))
}
