package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// raiseEvery is how often the bound is raised while rows are moved: each look wades through what was moved since, twice.
const raiseEvery = 100 * time.Millisecond

// lowBound is an id below which the outbox is known to be empty for good. A scan that begins there does not wade
// through the rows that an old snapshot (a dump, a forgotten transaction) keeps vacuum from removing.
//
// It is true of the outbox, whoever leads, and so the next leader begins with what the last one has stored. A crash of
// Postgres takes nothing back of it: what it rests on, rows that were moved and ids that were drawn, was written before it.
type lowBound struct {
	id     int64 // the bound
	stored int64 // what of it reelay.state has, at least
	next   int64 // the bound that holds once every transaction up to mark has ended
	mark   uint64
	ready  bool // next and mark are set
	dirty  bool // rows were moved since next was chosen
	raised time.Time
}

// due tells whether it is time to raise the bound.
func (b *lowBound) due() bool { return (b.ready || b.dirty) && time.Since(b.raised) >= raiseEvery }

// raise moves the bound up where it may. It is sound because ids up to next were drawn before mark was, by
// transactions that have all ended by the time the oldest running one is younger.
func (b *lowBound) raise(ctx context.Context, conn *pgx.Conn) error {
	b.raised = time.Now()
	if b.ready {
		var settled bool
		if err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $1", int64(b.mark)).Scan(&settled); err != nil {
			return err
		}
		if !settled {
			return nil
		}
		var lowest *int64
		if err := conn.QueryRow(ctx, "SELECT min(id) FROM reelay.outbox WHERE id > $1", b.id).Scan(&lowest); err != nil {
			return err
		}
		if lowest != nil {
			b.next = min(b.next, *lowest-1)
		}
		b.id, b.ready = max(b.id, b.next), false
	}
	if !b.dirty {
		return nil
	}
	if err := conn.QueryRow(ctx, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM reelay.outbox_id_seq").Scan(&b.next); err != nil {
		return err
	}
	// A statement of its own, and after the ids were read.
	if err := conn.QueryRow(ctx, "SELECT pg_current_xact_id()::text::bigint").Scan(&b.mark); err != nil {
		return err
	}
	b.ready, b.dirty = true, false
	return nil
}
