package pg_test

import (
	"fmt"
	"testing"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// The row of reelay.state has a new version for each batch. While somebody holds an old snapshot, all of them stay.
func TestState_IsFoundAtOnceAmongOldVersions(t *testing.T) {
	t.Parallel()
	s := openAlone(t)
	b := &bus{}
	stand(t, s.url, b, "a")
	old := s.another()
	old.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM reelay.state`)
	const rounds, versions = 4, 2000
	for round := range rounds {
		// As many batches would take long, and do the same to the row.
		s.exec(`DO $$BEGIN FOR i IN 1..` + fmt.Sprint(versions) + ` LOOP UPDATE reelay.state SET published = published; COMMIT; END LOOP; END$$`)
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		eventually(t, "the event", func() bool { return b.head() == hub.Position(round+1) })
		b.beats(t, 2)
	}
	// Who reads it.
	all := one[int](s, `SELECT pg_relation_size('reelay.state') / current_setting('block_size')::int`)
	found := s.plan(`SELECT log FROM ` + pg.TheState + ` s`)
	if blocks := found.Hit + found.Read; all < 80 || blocks > 10 {
		t.Errorf("%d blocks of %d were read for one row", blocks, all)
	}
	// The leader, who updates it. The server counts with a delay, so look for a time when it has counted all.
	counted := func(moved int) int {
		t.Helper()
		eventually(t, "the server has counted", func() bool {
			return one[int](s, `SELECT n_tup_del FROM pg_stat_user_tables WHERE relid = 'reelay.outbox'::regclass`) >= moved
		})
		return one[int](s, `SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relid = 'reelay.state'::regclass`)
	}
	const more = 20
	before := counted(rounds)
	for i := range more {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		eventually(t, "the event", func() bool { return b.head() == hub.Position(rounds+i+1) })
	}
	if read := counted(rounds+more) - before; read > 10*more {
		t.Errorf("%d batches read %d entries of the index", more, read)
	}
	old.exec(`ROLLBACK`)
	b.complete(s)
}

// The row of reelay.state has a new version for each batch. While somebody holds a snapshot, none of them can be cleared
// away; afterwards their pages have to be used again.
func TestState_ItsPagesAreUsedAgain(t *testing.T) {
	t.Parallel()
	s := connect(t, pgtest.NewServer(t, map[string]string{"autovacuum_naptime": "1s"}).New(t))
	vacuums := func() int {
		return one[int](s, `SELECT autovacuum_count FROM pg_stat_user_tables WHERE relid = 'reelay.state'::regclass`)
	}
	old := s.another()
	var first int
	for round := range 5 {
		old.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM reelay.state`)
		for range 400 {
			s.exec(`UPDATE reelay.state SET published = published`)
		}
		old.exec(`ROLLBACK`)
		for range 100 { // these clear away what they see of the 400
			s.exec(`UPDATE reelay.state SET published = published`)
		}
		size := one[int](s, `SELECT pg_relation_size('reelay.state')`)
		if round == 0 {
			first = size
		}
		if size > 2*first {
			t.Errorf("round %d: reelay.state has %d bytes, after the first round %d", round, size, first)
		}
		before := vacuums()
		eventually(t, "autovacuum has come, and once more, for it may have begun before", func() bool {
			s.exec(`UPDATE reelay.state SET published = published`)
			return vacuums() >= before+2
		})
	}
}
