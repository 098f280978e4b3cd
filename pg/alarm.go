package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pollLeast is how soon an awake leader looks again after it found an event: more often follow. Each look in vain
	// doubles the pause, up to pollMost. Half of the pause is what polling adds to an event's way.
	pollLeast = 150 * time.Microsecond
	pollMost  = 2 * time.Millisecond
	// pollPerEvent is the pause for each event that a look found, up to pollBusy: from some thousand a second on, a
	// transaction that moves many leaves more of Postgres to the writers than many that move few.
	pollPerEvent = 100 * time.Microsecond
	pollBusy     = 20 * time.Millisecond
	// busyEvents within a window wake a leader that sleeps for good: from 400 a second on, polling costs writers less. Fewer
	// than quietEvents in one send it to sleep again: below 250 a second, a NOTIFY for each is sooner than a poll, and
	// dear to nobody. Events are counted and not wake-ups, since a leader that is slow to look has many events for each.
	busyEvents  = 40
	quietEvents = 25
	window      = 100 * time.Millisecond
	// settleMost is the longest pause between two looks while an old transaction may still commit without a NOTIFY.
	settleMost = 100 * time.Millisecond
)

// alarm decides when the leader looks again: at once, at the next poll, or when a writer wakes it.
//
//	     ┌──────── busy ────────────────────────────┐
//	     ▼                                          │
//	  awake ── nothing for a while ──▶ settling ──▶ asleep
//	(polls)    flag := asleep, then     (polls)   every transaction that may
//	            draw the mark                     have read "awake" has ended
//
// The flag tells writers whether to NOTIFY. One that read "awake" does not, and may commit at any time after; but it
// had a transaction id when it read, so once all transactions up to an id drawn after the flag fell have ended, no such
// writer is left, and a NOTIFY comes for everything that was not seen. A snapshot's xmax would not do for the mark:
// transactions above it may be running.
type alarm struct {
	conn *pgx.Conn
	mode Wake
	naps *napper

	awake    bool
	settling bool
	settled  bool          // found so by settle: if nothing is drained now, nothing can be missed
	mark     uint64        // while settling
	backoff  time.Duration // the next pause

	events   int // in the window that began at windowAt
	windowAt time.Time
}

func newAlarm(conn *pgx.Conn, mode Wake) *alarm {
	return &alarm{conn: conn, mode: mode, naps: newNapper(), backoff: pollLeast}
}

func (a *alarm) close() { a.naps.close() }

// set listens, and sets the flag, whatever the last leader left there.
func (a *alarm) set(ctx context.Context) error {
	if a.mode == WakePoll {
		return a.setFlag(ctx, 1)
	}
	if err := a.exec(ctx, "listen", "LISTEN reelay"); err != nil {
		return err
	}
	return a.fallAsleep(ctx)
}

// settle looks, while settling, whether the last writer that might not NOTIFY has ended. It is called before a drain:
// what such a writer committed, that drain sees.
func (a *alarm) settle(ctx context.Context) error {
	if !a.settling {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	err := a.conn.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $1", int64(a.mark)).Scan(&a.settled)
	if err != nil {
		return fmt.Errorf("look for old transactions: %w", err)
	}
	return nil
}

// wait returns when it is time to look again, and at deadline at the latest. drained is what the last look found.
func (a *alarm) wait(ctx context.Context, drained int, deadline time.Time) error {
	now := time.Now()
	if drained > 0 {
		a.backoff = min(max(pollLeast, time.Duration(drained)*pollPerEvent), pollBusy)
	}
	if a.mode == WakeAuto {
		if turned, err := a.count(ctx, now, drained); turned || err != nil {
			return err
		}
	}
	switch {
	case drained == batchSize: // there is more
		return ctx.Err()
	case a.mode == WakePoll || a.awake:
		a.naps.nap(a.backoff)
		a.backoff = min(2*a.backoff, pollMost)
		return ctx.Err()
	case a.settling && a.settled && drained == 0:
		a.settling, a.settled = false, false
	case a.settling:
		a.backoff = min(2*a.backoff, settleMost)
		if until := now.Add(a.backoff); until.Before(deadline) {
			deadline = until
		}
	}
	return a.sleep(ctx, deadline)
}

// sleep waits for a NOTIFY until deadline. It takes all that have come: what they tell of is committed, so one look
// finds it. One look for each would fall behind writers that are quicker, and go on long after them.
func (a *alarm) sleep(ctx context.Context, deadline time.Time) error {
	sleeping, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	_, err := a.conn.WaitForNotification(sleeping)
	for cancel(); err == nil; {
		if _, none := a.conn.WaitForNotification(sleeping); none != nil { // does not wait any more
			break
		}
	}
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout()):
		if a.conn.IsClosed() {
			return fmt.Errorf("wait for a notification: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("wait for a notification: %w", err)
	}
}

// count counts events, and turns from sleep to polling where they come often, and back where they come rarely. It reports
// whether it did: the next look is due at once then.
func (a *alarm) count(ctx context.Context, now time.Time, drained int) (turned bool, err error) {
	over := now.Sub(a.windowAt) >= window
	if over && a.awake && a.events+drained < quietEvents {
		return true, a.fallAsleep(ctx)
	}
	if over {
		a.windowAt, a.events = now, 0
	}
	if a.events += drained; a.awake || a.events < busyEvents {
		return false, nil
	}
	a.windowAt, a.events = now, 0
	a.awake, a.settling, a.settled = true, false, false
	return true, a.setFlag(ctx, 1)
}

func (a *alarm) fallAsleep(ctx context.Context) error {
	if err := a.setFlag(ctx, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	// A statement of its own, after the flag has fallen.
	if err := a.conn.QueryRow(ctx, "SELECT pg_current_xact_id()::text::bigint").Scan(&a.mark); err != nil {
		return fmt.Errorf("draw the mark: %w", err)
	}
	a.awake, a.settling, a.settled, a.backoff = false, true, false, pollMost
	return nil
}

func (a *alarm) setFlag(ctx context.Context, awake int) error {
	return a.exec(ctx, "set the wake flag", "SELECT setval('reelay.awake', $1)", awake)
}

func (a *alarm) exec(ctx context.Context, doing, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	if _, err := a.conn.Exec(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
