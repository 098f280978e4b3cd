package pg_test

import (
	"fmt"
	"testing"
	"time"
)

// Two open transactions that touch different rows never wait for each other because of Reelay: not in either order,
// not when they are about one owner, not with an owner in common, and whether they NOTIFY or not.
func TestWriters_NeverWaitForEachOther(t *testing.T) {
	t.Parallel()
	for name, flag := range map[string]int{"leader asleep": 0, "leader awake": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, watched, `INSERT INTO videos SELECT 'v' || i, CASE WHEN i <= 4 THEN 'alice' ELSE 'bob' END FROM generate_series(1, 8) i`)
			s.exec(`SELECT setval('reelay.awake', $1)`, flag)
			one, two := s.another(), s.another()
			steps := []string{
				`UPDATE videos SET processing_status = 'ready' WHERE id = $1`,
				`UPDATE videos SET user_id = 'carol' WHERE id = $1`,
				`SELECT reelay.emit('dave', $1, 'video.progress')`,
				`DELETE FROM videos WHERE id = $1`,
				`INSERT INTO videos VALUES ($1, 'carol')`,
			}
			for _, w := range []*session{one, two} {
				w.exec(`SET statement_timeout = '2s'; SET lock_timeout = '1s'; BEGIN`)
			}
			// Rows of one owner and of two, in opposite order.
			first, second := []string{"v1", "v5", "v2", "v6"}, []string{"v8", "v3", "v7", "v4"}
			for i := range first {
				for _, step := range steps {
					one.exec(step, first[i])
					two.exec(step, second[i])
				}
			}
			if waiting := s.lines(`SELECT pid || ' waits for ' || pg_blocking_pids(pid)::text FROM pg_stat_activity
				WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`); len(waiting) > 0 {
				t.Errorf("locks: %v", waiting)
			}
			// The rows and tables that they wrote are all they hold; nothing of Reelay's that excludes another writer.
			same(t, "locks on what is Reelay's", s.lines(`
				SELECT DISTINCT l.relation::regclass || ' ' || l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
				WHERE c.relnamespace = 'reelay'::regnamespace AND l.pid <> pg_backend_pid()
					AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
					AND l.mode NOT IN ('AccessShareLock', 'RowExclusiveLock')`), nil)
			same(t, "other locks", s.lines(`
				SELECT l.locktype || ' ' || l.mode FROM pg_locks l
				WHERE l.locktype NOT IN ('relation', 'virtualxid', 'transactionid') AND l.pid = ANY ($1)`,
				[]uint32{one.conn.PgConn().PID(), two.conn.PgConn().PID()}), nil)
			two.exec(`COMMIT`)
			one.exec(`COMMIT`)
		})
	}
}

// No leader, ever: writers go on, and the server keeps nothing for nobody but the rows of the outbox.
func TestWriters_DoNotNeedALeader(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `SET statement_timeout = '2s'`)
	for i := range 500 {
		s.exec(`INSERT INTO videos VALUES ($1, 'alice')`, fmt.Sprint("v", i))
	}
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	if n := one[int](s, `SELECT count(*) FROM reelay.outbox`); n != 1000 {
		t.Errorf("the outbox has %d rows, want 1000", n)
	}
	b := &bus{}
	stand(t, s.url, b, "at last")
	if n := len(b.complete(s)); n != 1000 {
		t.Errorf("got %d events, want 1000", n)
	}
}

// The leader numbers in a transaction that never waits for a writer, and no writer waits for it: here it is stopped in
// the middle of one.
func TestWriters_DoNotWaitForALeaderInTheMiddleOfADrain(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice'), ('v2', 'bob')`)
	drain := s.another() // by hand, as the leader does it, and held open
	drain.exec(`BEGIN;
		UPDATE reelay.state SET last_position = last_position + 2;
		INSERT INTO reelay.owner_head VALUES ('alice', 1), ('bob', 1);
		INSERT INTO reelay.log SELECT row_number() OVER (), owner, 1, id, subject, type, data, created_at FROM reelay.outbox;
		DELETE FROM reelay.outbox`)
	s.exec(`SET statement_timeout = '2s'; SET lock_timeout = '1s'`)
	begin := time.Now()
	s.exec(`UPDATE videos SET processing_status = 'ready'; DELETE FROM videos WHERE id = 'v1'; INSERT INTO videos VALUES ('v3', 'alice')`)
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	s.exec(`TRUNCATE videos`)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("writers took %v", took)
	}
	drain.exec(`ROLLBACK`)
}
