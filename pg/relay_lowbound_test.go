package pg_test

import (
	"context"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg/pgtest"
)

// beats waits until the leader has beaten n times more. With each it may raise the bound below which it does not look.
func (b *bus) beats(t testing.TB, n int) {
	t.Helper()
	before := len(b.all())
	eventually(t, "beats", func() bool {
		beats := 0
		for _, batch := range b.all()[before:] {
			if len(batch.Events) == 0 {
				beats++
			}
		}
		return beats >= n
	})
}

// openAlone is open on a server of its own. The bound waits for the transactions of all databases of a server, and other
// tests have some that stay open.
func openAlone(t *testing.T, setup ...string) *session {
	t.Helper()
	s := connect(t, pgtest.NewServer(t, nil).New(t))
	for _, sql := range setup {
		s.exec(sql)
	}
	return s
}

// reelay.emit may be the first thing that a transaction does, which then has no id that the leader could see while it
// has an id of the outbox already.
func TestRelay_TheLowBoundWaitsForATransactionWithoutAnID(t *testing.T) {
	t.Parallel()
	s := openAlone(t, watched, `
		CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN true; END$$;
		ALTER TABLE reelay.outbox ADD CHECK (subject <> 'slow' OR public.slow())`)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	// An id that the server must write to its own log would bring a transaction id with it. It writes for 32 at once.
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	eventually(t, "the event", func() bool { return b.head() == 1 })
	gate := s.another()
	gate.exec(`SELECT pg_advisory_lock(42)`)
	done := make(chan error, 1)
	writer := s.another()
	go func() { done <- writer.try(`SELECT reelay.emit('alice', 'slow', 'video.progress')`) }() // ends when the gate opens
	eventually(t, "the writer has its id of the outbox, and waits", func() bool {
		return one[bool](s, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 42)`)
	})
	for position := range hub.Position(3) {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		eventually(t, "the event", func() bool { return b.head() == position+2 })
		b.beats(t, 2)
	}
	gate.exec(`SELECT pg_advisory_unlock(42)`)
	if err := <-done; err != nil {
		t.Fatal(explain(err))
	}
	events := b.complete(s)
	if last := events[len(events)-1]; len(events) != 5 || last.Subject != "slow" || last.OutboxID != 2 {
		t.Errorf("got %d events, the last %s; want 5, and the slow one", len(events), line(last))
	}
}

// More waits than the leader can number between two beats: what is left of it is below the ids of that moment.
func TestRelay_TheLowBoundWaitsForABacklog(t *testing.T) {
	t.Parallel()
	s := openAlone(t)
	b := &bus{}
	b.meddle(func(ctx context.Context, _ string, batch hub.Batch) error {
		if len(batch.Events) > 0 { // slow, so that the backlog outlasts several beats
			slow, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
			defer cancel()
			<-slow.Done()
		}
		return nil
	})
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress') FROM generate_series(1, 10000)`)
	stand(t, s.url, b, "a")
	if n := len(b.complete(s)); n != 10000 {
		t.Errorf("got %d events, want 10000", n)
	}
}

// Somebody holds an old snapshot, so nothing that was moved out of the outbox can be cleared away.
func TestRelay_AnOldSnapshotDoesNotMakeEachLookDear(t *testing.T) {
	t.Parallel()
	s := openAlone(t, watched)
	b := &bus{}
	first := stand(t, s.url, b, "a")
	old := s.another()
	old.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM reelay.outbox`)
	const many, more = 5000, 20
	s.exec(`INSERT INTO videos SELECT 'v' || i, 'alice' FROM generate_series(1, $1::int) i`, many)
	eventually(t, "the many", func() bool { return b.head() == many })
	b.beats(t, 4)
	// The server counts with a delay, so look for a time when it has counted all.
	counted := func(deleted int) int {
		t.Helper()
		eventually(t, "the server has counted", func() bool {
			return one[int](s, `SELECT n_tup_del FROM pg_stat_user_tables WHERE relid = 'reelay.outbox'::regclass`) >= deleted
		})
		return one[int](s, `SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelid = 'reelay.outbox_pkey'::regclass`)
	}
	before := counted(many)
	for i := range more {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		eventually(t, "the event", func() bool { return b.head() == many+hub.Position(i+1) })
	}
	if read := counted(many+more) - before; read > many {
		t.Errorf("%d looks read %d entries of the index, most of them long dead", more, read)
	}
	// The next leader begins where this one was.
	b.beats(t, 2)
	first.stop()
	_, epoch := b.leader()
	stand(t, s.url, b, "b")
	awaitLeader(t, b, epoch)
	before = counted(many + more)
	for i := range more {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		eventually(t, "the event", func() bool { return b.head() == many+more+hub.Position(i+1) })
	}
	if read := counted(many+2*more) - before; read > many {
		t.Errorf("%d looks of the next leader read %d entries of the index, most of them long dead", more, read)
	}
	old.exec(`ROLLBACK`)
	b.complete(s)
}

// Of a log with another past nothing is known.
func TestRelay_TheLowBoundIsNotThatOfAnotherLog(t *testing.T) {
	t.Parallel()
	s := open(t, `SELECT reelay.emit('alice', 'v1', 'video.progress'); UPDATE reelay.state SET outbox_low = 1000`)
	b := &bus{}
	first := stand(t, s.url, b, "a") // a copy of the template is another database
	eventually(t, "the event", func() bool { return b.head() == 1 })
	first.stop()
	s.exec(`UPDATE reelay.state SET history = 'another', outbox_low = 1000; SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	stand(t, s.url, b, "b")
	eventually(t, "the second event", func() bool { return b.head() == 2 })
}
