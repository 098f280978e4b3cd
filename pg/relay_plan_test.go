package pg_test

import (
	"testing"

	"github.com/reelay/reelay/pg"
)

// The drain's plan is made once, when the outbox is empty. A full batch must not make any
// of its steps touch more rows than some times a batch: one side of a join for each row of the other, for instance.
func TestRelay_AFullBatchIsNoMoreWorkThanItsRows(t *testing.T) {
	t.Parallel()
	s := open(t)
	// Pages without a row, of which Postgres knows that they are empty.
	const fill = `SELECT reelay.emit('user-' || i % 700, 'v1', 'video.progress') FROM generate_series(1, 3000) i`
	s.exec(`ALTER TABLE reelay.outbox SET (autovacuum_enabled = off)`)
	s.exec(fill)
	s.exec(`DELETE FROM reelay.outbox`)
	s.exec(`VACUUM ANALYZE reelay.outbox`)
	s.exec(pg.LeaderSession)
	s.exec(`PREPARE drain (bigint, bigint, bigint, bigint, bigint) AS ` + pg.DrainStatement)
	for range 7 { // as often as Postgres might look for another plan
		s.exec(`EXECUTE drain (0, 0, 0, 1000, 0)`)
	}
	s.exec(fill)
	drain := s.plan(`EXECUTE drain (0, 0, 0, 1000, 0)`)
	if moved := one[int](s, `SELECT count(*) FROM reelay.log`); moved != pg.BatchSize {
		t.Fatalf("%d events were moved, want %d", moved, pg.BatchSize)
	}
	drain.check(t)
}

func (n node) check(t *testing.T) {
	t.Helper()
	if n.Rows*n.Loops+n.Dropped > 5*pg.BatchSize {
		t.Errorf("%s: %.0f rows in each of %.0f rounds, %.0f dropped", n.Type, n.Rows, n.Loops, n.Dropped)
	}
	for _, below := range n.Plans {
		below.check(t)
	}
}
