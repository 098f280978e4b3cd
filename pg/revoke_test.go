package pg_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/migrations"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// revoked is what is in force, one a line, in the order of the calls.
func revoked(s *session) []string {
	s.t.Helper()
	return s.lines(`SELECT concat_ws(' ', 'user ' || user_id, 'token ' || token_id, reason) FROM reelay.revocation WHERE at IS NOT NULL ORDER BY id`)
}

func TestRevoke_IsPartOfItsTransaction(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.exec(`
		BEGIN;
		SELECT reelay.disconnect('alice');
		SAVEPOINT one;
		SELECT reelay.disconnect('undone');
		ROLLBACK TO one;
		SAVEPOINT two;
		SELECT reelay.disconnect('bob', 'banned'), reelay.revoke_token('t-1', now() + interval '1 hour');
		RELEASE two;
		COMMIT`)
	s.exec(`BEGIN; SELECT reelay.disconnect('nobody'); ROLLBACK`)
	s.exec(`SET session_replication_role = replica; SELECT reelay.revoke_token(token_id => 't-2'); RESET session_replication_role`)
	s.exec(`SET CONSTRAINTS ALL IMMEDIATE; BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SELECT reelay.disconnect('carol', repeat('é', 300)); COMMIT`)
	same(t, "revoked", revoked(s), []string{"user alice", "user bob banned", "token t-1", "token t-2", "user carol " + strings.Repeat("é", 256)})
	if s.try(`BEGIN READ ONLY; SELECT reelay.disconnect('alice')`) == nil {
		t.Error("a read-only transaction has disconnected somebody")
	}
	s.exec("ROLLBACK")
	// Two phases: Postgres refuses PREPARE after a NOTIFY, so this also shows that there is none.
	s.exec(`BEGIN; SELECT reelay.disconnect('dave'); PREPARE TRANSACTION 'dave'`)
	s.exec(`COMMIT PREPARED 'dave'`)
	if got := revoked(s); got[len(got)-1] != "user dave" {
		t.Errorf("got %v, want dave at the end", got)
	}
}

// A token that was issued between the call and the commit is refused as well: whoever issued it could not know better.
func TestRevoke_CountsFromTheCommit(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.exec(`BEGIN; SELECT reelay.disconnect('alice')`)
	issued := one[time.Time](s.another(), `SELECT clock_timestamp()`)
	s.exec(`COMMIT`)
	if at := one[time.Time](s, `SELECT at FROM reelay.revocation WHERE at IS NOT NULL`); !at.After(issued) {
		t.Errorf("revoked at %v, and a token was issued before the commit at %v", at, issued)
	}
}

func TestRevoke_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := open(t)
	var got strings.Builder
	for _, sql := range []string{
		`SELECT reelay.disconnect(NULL)`,
		`SELECT reelay.disconnect('')`,
		`SELECT reelay.disconnect(repeat('é', 128) || 'x')`,
		`SELECT reelay.disconnect(E'alice\r\nbob')`,
		`SELECT reelay.disconnect(E'\u0001')`,
		`SELECT reelay.disconnect(E'alice\u007f')`,
		`SELECT reelay.disconnect(E'\u0085alice')`,
		`SELECT reelay.disconnect('alice', until => NULL)`,
		`SELECT reelay.revoke_token(NULL)`,
		`SELECT reelay.revoke_token('')`,
		`SELECT reelay.revoke_token(repeat('x', 257))`,
		`SELECT reelay.revoke_token(E'\t')`,
		`SELECT reelay.revoke_token('t-1', NULL)`,
	} {
		got.WriteString(sql + "\n" + s.refused(sql) + "\n\n")
	}
	golden(t, "revoke_errors.golden", got.String())
	same(t, "revoked", revoked(s), nil)
	s.exec(`SELECT reelay.disconnect(repeat('é', 128)), reelay.disconnect('* u1 \x'';--'), reelay.disconnect('alice', E'a\nb', '-infinity'), reelay.revoke_token(repeat('x', 256), 'infinity')`)
	if n := len(revoked(s)); n != 4 {
		t.Errorf("%d revocations, want 4", n)
	}
}

// Callers share nothing that one could hold and another wait for, not even about one user; and Postgres sees no
// dependence between them where they ask it to.
func TestRevoke_CallersNeverWaitForEachOtherNorFail(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"} {
		s := open(t)
		var callers []*session
		var pids []uint32
		for range 6 {
			caller := s.another()
			caller.exec(`SET statement_timeout = '2s'; SET lock_timeout = '1s'; BEGIN ISOLATION LEVEL ` + level)
			callers, pids = append(callers, caller), append(pids, caller.conn.PgConn().PID())
		}
		for round := range 4 {
			for i := range callers {
				if round%2 == 1 {
					i = len(callers) - 1 - i
				}
				callers[i].exec(`SELECT reelay.disconnect('alice'), reelay.disconnect($1), reelay.revoke_token('t-1')`, fmt.Sprint("u", (i+round)%3))
			}
		}
		same(t, level+": locks", s.lines(`
			SELECT DISTINCT l.locktype || ' ' || l.mode FROM pg_locks l WHERE l.pid = ANY ($1)
				AND (l.locktype NOT IN ('relation', 'virtualxid', 'transactionid') OR l.mode NOT IN ('AccessShareLock', 'RowExclusiveLock', 'ExclusiveLock')
					OR l.locktype = 'relation' AND l.mode = 'ExclusiveLock')`, pids), nil)
		for i := range callers {
			callers[(i*5)%len(callers)].exec(`COMMIT`)
		}
		if n := len(revoked(s)); n != 6*4*3 {
			t.Errorf("%s: %d revocations, want %d", level, n, 6*4*3)
		}
	}
}

// Whom the owner of the schema names may call, and nobody else; and they see and write nothing besides.
func TestRevoke_RightsAreGivenLikeThoseOfEmit(t *testing.T) {
	t.Parallel()
	s := open(t)
	role := s.role("")
	s.exec(`GRANT USAGE ON SCHEMA reelay TO ` + role)
	app := s.as(role)
	for _, sql := range []string{
		`SELECT reelay.disconnect('alice')`, `SELECT reelay.revoke_token('t-1')`, `SELECT * FROM reelay.revocation`, `SELECT * FROM reelay.secret`,
		`INSERT INTO reelay.revocation (user_id, until) VALUES ('alice', now())`, `DELETE FROM reelay.revocation`, `UPDATE reelay.secret SET secret = ''`,
		`SELECT reelay.trim_revocations()`, `SELECT reelay.revocation_slack()`, `SELECT reelay.check_revoked('', '', '', now())`,
		`CREATE TEMP TABLE mine (LIKE reelay.revocation); CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION reelay.stamp_revocation()`,
	} {
		if got := app.refused(sql); !strings.HasPrefix(got, "42501") {
			t.Errorf("%s\ngot %s, want 42501", sql, got)
		}
	}
	s.exec(`GRANT EXECUTE ON FUNCTION reelay.disconnect, reelay.revoke_token TO ` + role)
	app.exec(`SELECT reelay.disconnect('alice'), reelay.revoke_token('t-1')`)
	// Objects of the caller's own do not get in between, also at the commit, when its search_path is in force.
	app.exec(`CREATE TEMP TABLE revocation (LIKE pg_class); SET search_path = pg_temp; SELECT reelay.disconnect('bob')`)
	same(t, "revoked", revoked(s), []string{"user alice", "token t-1", "user bob"})
}

func TestTrimRevocations_KeepsWhatIsInForce(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.exec(`SELECT reelay.revoke_token('over', now() - interval '301 s'), reelay.revoke_token('never', '-infinity'), reelay.revoke_token('lenient', now() - interval '299 s'),
		reelay.disconnect('alice'), reelay.disconnect('bob', until => 'infinity')`)
	late := s.another()
	late.exec(`BEGIN; SELECT reelay.disconnect('late')`)
	if n := one[int](s, `SELECT reelay.trim_revocations()`); n != 2 {
		t.Errorf("%d trimmed, want 2", n)
	}
	late.exec(`COMMIT`)
	same(t, "revoked", revoked(s), []string{"token lenient", "user alice", "user bob", "user late"})
	s.exec(`SELECT reelay.trim_revocations()`)
	if n := one[int](s, `SELECT count(*) FROM reelay.revocation`); n != 4 {
		t.Errorf("%d rows, want those 4 alone", n)
	}
	// By the leader, with the rights of who serves.
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	s.exec(`UPDATE reelay.revocation SET until = now() - interval '1 day' WHERE user_id = 'bob'`)
	stand(t, login(s.url, role), &bus{}, "a")
	eventually(t, "the leader trims", func() bool { return len(revoked(s)) == 3 })
}

// A database that was migrated by the version before, with a role that serves and tables that are watched.
func TestMigrate_FromTheVersionBeforeRevocations(t *testing.T) {
	t.Parallel()
	s := connect(t, pgtest.Shared(t).NewEmpty(t))
	s.exec(`CREATE SCHEMA reelay`)
	for _, name := range []string{"00001_log.sql", "00002_watch.sql"} {
		content, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(content), "-- +goose Down")
		s.exec(up)
	}
	generate, err := os.ReadFile("testdata/generate_2.sql") // as it was then
	if err != nil {
		t.Fatal(err)
	}
	s.exec(string(generate))
	s.exec(`CREATE TABLE reelay.migration (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp NOT NULL DEFAULT now());
		INSERT INTO reelay.migration (version_id, is_applied) VALUES (0, true), (1, true), (2, true)`)
	s.exec(watched)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	s.exec(`CREATE TABLE broken (id text, user_id text, processing_status text); SELECT reelay.watch('broken');
		ALTER TABLE broken RENAME user_id TO account; CREATE TABLE gone (LIKE videos); SELECT reelay.watch('gone'); DROP TABLE gone`)
	role := s.role("LOGIN")
	s.exec(`SELECT reelay.grant_serve($1)`, role)
	l := readLog(t, login(s.url, role))
	if err := l.Check(t.Context()); !errors.Is(err, pg.ErrNoSchema) || pg.Transient(err) {
		t.Errorf("a schema older than the binary: got %v, want %v", err, pg.ErrNoSchema)
	}
	migrate(t, s.url)
	if err := l.Check(t.Context()); err != nil {
		t.Errorf("after the migration: %v", err)
	}
	if secret, err := l.Secret(t.Context()); err != nil || len(secret) != 32 {
		t.Errorf("got a secret of %d bytes, %v", len(secret), err)
	}
	b := &bus{}
	stand(t, login(s.url, role), b, "a")
	s.exec(`INSERT INTO broken VALUES ('b1', 'alice')`) // nobody knows any more what the column's number was
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	eventually(t, "both events", func() bool { return b.head() == 2 })
}

func TestLog_SecretIsTheDatabasesOwn(t *testing.T) {
	t.Parallel()
	s := open(t)
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	first, err := readLog(t, login(s.url, role)).Secret(t.Context())
	if err != nil || len(first) < 32 {
		t.Fatalf("got %d bytes, %v", len(first), err)
	}
	again, err := readLog(t, s.url).Secret(t.Context())
	if err != nil || string(again) != string(first) {
		t.Errorf("two replicas have two secrets, %v", err)
	}
	empty := connect(t, pgtest.Shared(t).NewEmpty(t))
	migrate(t, empty.url)
	if other, err := readLog(t, empty.url).Secret(t.Context()); err != nil || string(other) == string(first) {
		t.Errorf("two databases have one secret, or none: %v", err)
	}
	if got := s.refused(`INSERT INTO reelay.secret VALUES (true, sha256('x'))`); !strings.HasPrefix(got, "23505") {
		t.Errorf("a second secret: %s", got)
	}
	if _, err := readLog(t, pgtest.Shared(t).NewEmpty(t)).Secret(t.Context()); err == nil || pg.Transient(err) {
		t.Errorf("without the schema: got %v", err)
	}
}
