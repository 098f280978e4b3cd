package pg_test

import (
	"fmt"
	"testing"

	"github.com/reelay/reelay/hub"
)

func TestRelay_KeepsEachRowsOrderUnderManyWriters(t *testing.T) {
	t.Parallel()
	s := open(t, hammered)
	b := &bus{}
	stand(t, s.url, b, "a")
	h := swing(t.Context(), s.url, 20, 100)
	h.finish(t)
	h.check(s, b.complete(s))
	b.chained(t)
}

// A transaction draws its outbox ids and commits long after thousands of higher ones were numbered.
func TestRelay_DeliversATransactionThatCommitsLate(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	s.exec(`INSERT INTO videos SELECT 'v' || i, 'alice' FROM generate_series(1, 10) i`)
	eventually(t, "the ten", func() bool { return b.head() == 10 })

	late, later, never := s.another(), s.another(), s.another()
	late.exec(`BEGIN; UPDATE videos SET processing_status = 'late' WHERE id = 'v1'`)
	later.exec(`BEGIN; SELECT reelay.emit('alice', 'v2', 'video.later')`) // its first statement
	never.exec(`BEGIN; UPDATE videos SET processing_status = 'never' WHERE id = 'v3'`)
	old := s.another() // keeps every dead row of the outbox alive
	old.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM reelay.outbox`)

	head := hub.Position(10)
	burst := func(from int) {
		t.Helper()
		for i := range 3 {
			s.exec(`INSERT INTO videos SELECT 'x' || $1::int || '-' || i, 'bob' FROM generate_series(1, 1000) i`, from+i)
			head += 1000
		}
		eventually(t, "the burst", func() bool { return b.head() == head })
		// The low bound would pass them if it could: give it the beats to do so, seen by the marks that follow.
		beats := len(b.all())
		eventually(t, "two beats", func() bool {
			n := 0
			for _, batch := range b.all()[beats:] {
				if len(batch.Events) == 0 {
					n++
				}
			}
			return n >= 3
		})
	}
	burst(0)
	late.exec(`COMMIT`)
	head++
	eventually(t, "the late one", func() bool { return b.head() == head })
	burst(10)
	later.exec(`COMMIT`)
	head++
	eventually(t, "the later one", func() bool { return b.head() == head })
	never.exec(`ROLLBACK`)
	burst(20)

	events := b.complete(s)
	var tail []string
	for _, e := range events {
		if e.Owner == "alice" && e.Sequence > 10 {
			tail = append(tail, fmt.Sprint(e.Sequence, " ", e.Subject, " ", e.Type))
		}
	}
	same(t, "the late ones", tail, []string{"11 v1 video.updated", "12 v2 video.later"})
}
