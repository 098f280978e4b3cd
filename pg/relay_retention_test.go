package pg_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

// narrow makes the log's partitions small.
func narrow(s *session, width int) {
	s.t.Helper()
	s.exec(fmt.Sprintf(`
		CREATE OR REPLACE FUNCTION reelay.partition_width() RETURNS bigint
		LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT %d::bigint';
		DROP TABLE reelay.log_0, reelay.log_1, reelay.log_2;
		SELECT reelay.extend_log()`, width))
}

func partitions(s *session) []string {
	s.t.Helper()
	return s.lines(`SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'reelay.log'::regclass ORDER BY substr(c.relname, 5)::int`)
}

func TestRelay_ExtendsTheLogAheadOfNeed(t *testing.T) {
	t.Parallel()
	s := open(t)
	narrow(s, 100)
	b := &bus{}
	stand(t, s.url, b, "a")
	_, epoch := awaitLeader(t, b, 0)
	for n := 1; n <= 6; n++ {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress') FROM generate_series(1, 100)`)
		eventually(t, "two partitions lie ahead", func() bool {
			return one[bool](s, `SELECT to_regclass($1) IS NOT NULL`, fmt.Sprint("reelay.log_", n+2))
		})
	}
	if n := len(b.complete(s)); n != 600 {
		t.Errorf("got %d events, want 600", n)
	}
	if _, now := b.leader(); now != epoch {
		t.Errorf("the epoch went from %d to %d", epoch, now)
	}
}

// Somebody analyzes the whole log, say, and no partition can be attached meanwhile.
func TestRelay_GoesOnWhileTheLogCannotBeExtended(t *testing.T) {
	t.Parallel()
	s := open(t)
	narrow(s, 100)
	b := &bus{}
	first := stand(t, s.url, b, "a")
	_, epoch := awaitLeader(t, b, 0)
	busy := s.another()
	busy.exec(`BEGIN; LOCK TABLE reelay.log IN SHARE UPDATE EXCLUSIVE MODE`)
	for n := range 5 {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress') FROM generate_series(1, 40)`)
		eventually(t, "they are published", func() bool { return b.head() == hub.Position(40*(n+1)) })
		b.beats(t, 1)
	}
	if _, now := b.leader(); now != epoch {
		t.Errorf("the epoch went from %d to %d", epoch, now)
	}
	first.stop()
	stand(t, s.url, b, "b") // and the next leader can begin
	awaitLeader(t, b, epoch)
	same(t, "partitions", partitions(s), []string{"log_0", "log_1", "log_2"})
	busy.exec(`ROLLBACK`)
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	eventually(t, "it is extended", func() bool { return len(partitions(s)) == 5 })
	b.complete(s)
}

// When there is no room at all, the leader starts anew, which makes some.
func TestRelay_RecoversWhenTheLogIsFull(t *testing.T) {
	t.Parallel()
	s := open(t)
	narrow(s, 1000)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress') FROM generate_series(1, 20000)`)
	if n := len(b.complete(s)); n != 20000 {
		t.Errorf("got %d events, want 20000", n)
	}
}

func TestRelay_TrimsWhatIsPastTheRetentionAndReadersSeeTheHole(t *testing.T) {
	t.Parallel()
	s := open(t)
	narrow(s, 10)
	b := &bus{}
	first := stand(t, s.url, b, "a")
	for i := range 35 {
		s.exec(`SELECT reelay.emit($1, 'v1', 'video.progress')`, fmt.Sprint("u", i%2))
		eventually(t, "the event", func() bool { return b.head() == hub.Position(i+1) })
		eventually(t, "there is room", func() bool { return len(partitions(s)) >= (i+1)/10+2 })
	}
	first.stop()
	if first := partitions(s)[0]; first != "log_0" {
		t.Errorf("within the retention, the log begins with %s", first)
	}
	s.exec(`UPDATE reelay.log SET created_at = created_at - interval '25 hours' WHERE position < 27`)
	stand(t, s.url, b, "b")
	eventually(t, "the old ones are trimmed", func() bool { return partitions(s)[0] == "log_2" })

	l := readLog(t, s.url)
	page, err := l.Read(t.Context(), "u0", 3, 100)
	if err != nil {
		t.Fatal(err)
	}
	// u0 has the odd positions: 21, its eleventh, is the first that is kept.
	if page.Head != 18 || page.First != 11 || len(page.Events) != 8 || page.Events[0].Sequence != 11 {
		t.Errorf("got head %d, first %d, %d events; want 18, 11 and 8", page.Head, page.First, len(page.Events))
	}
	// All of an owner's events may be gone: the head tells that there were some.
	s.exec(`UPDATE reelay.log SET created_at = created_at - interval '25 hours'; SELECT reelay.trim_log('1 day')`)
	same(t, "the partition being filled stays", partitions(s), []string{"log_3", "log_4", "log_5"})
	s.exec(`DELETE FROM reelay.log`)
	page, err = l.Read(t.Context(), "u0", 3, 100)
	if err != nil || page.Head != 18 || page.First != 0 || len(page.Events) != 0 {
		t.Errorf("got %+v, %v; want head 18 and nothing else", page, err)
	}
	// And one who has all of them is told so, trimmed or not.
	page, err = l.Read(t.Context(), "u0", 18, 100)
	if err != nil || page.Head != 18 || len(page.Events) != 0 {
		t.Errorf("got %+v, %v; want head 18 and nothing else", page, err)
	}
}

// A long reader is in the way of a trim, and nobody waits behind it for long.
func TestTrimLog_GivesWayToAReader(t *testing.T) {
	t.Parallel()
	s := open(t)
	narrow(s, 10)
	s.exec(`INSERT INTO reelay.log SELECT i, 'alice', i, i, 'v', 'video.updated', NULL, now() FROM generate_series(1, 25) i; UPDATE reelay.state SET last_position = 25`)
	reader := s.another()
	reader.exec(`BEGIN; SELECT count(*) FROM reelay.log`)
	begin := time.Now()
	if got := s.refused(`SELECT reelay.trim_log('0')`); !strings.HasPrefix(got, "55P03") {
		t.Errorf("got %s, want lock_not_available", got)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it waited %v for the lock", took)
	}
	reader.exec(`COMMIT`)
	if n := one[int](s, `SELECT reelay.trim_log('0')`); n != 2 {
		t.Errorf("%d partitions were dropped, want 2", n)
	}
	same(t, "partitions", partitions(s), []string{"log_2"})
}
