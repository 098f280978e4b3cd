package pg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/hub"
)

// errFenced says that another leader has raised the epoch.
var errFenced = errors.New("another leader has taken over")

// leadership is one leader's term, from takeover to the end of its session.
type leadership struct {
	*Relay
	conn *pgx.Conn

	name      string       // of the log
	epoch     hub.Epoch    // ours
	head      hub.Position // the last position given
	handed    atomic.Int64 // everything up to this position was handed to the bus
	published hub.Position // what the durable mark says
	state     int64        // the generation of reelay.state
	extended  hub.Position // the head when partitions were last looked after
	low       lowBound
	// behind is the publication of a batch, while the next one is awaited and numbered.
	behind sync.WaitGroup
}

// takeOver makes this session the one that numbers, and publishes again what the last leader may not have published.
func (l *leadership) takeOver(ctx context.Context) error {
	err := l.query(ctx, "take over", func(ctx context.Context) error {
		// A log whose history is another one gets a new name: its positions may have been given before, to other events.
		// The row's lock waits for a drain of the old leader that is under way, and fences it out of the next.
		return l.conn.QueryRow(ctx, `
			UPDATE reelay.state SET epoch = epoch + 1,
				log = CASE WHEN history = reelay.history() THEN log ELSE reelay.new_log_name() END,
				outbox_low = CASE WHEN history = reelay.history() THEN outbox_low ELSE 0 END,
				history = reelay.history(), generation = generation + 1
			RETURNING log, epoch, last_position, published, outbox_low, generation`).
			Scan(&l.name, &l.epoch, &l.head, &l.published, &l.low.id, &l.state)
	})
	if err != nil {
		return schemaError(err, "take over")
	}
	l.handed.Store(int64(l.head))
	l.low.stored = l.low.id
	l.extend(ctx)
	return l.republish(ctx)
}

// republish publishes what lies between the mark and the head. Where that is a lot it says no more than how far the
// log has come: replicas see that they missed something, and read it.
func (l *leadership) republish(ctx context.Context) error {
	for from := l.published; l.head-l.published <= republishLimit && from < l.head; {
		var events []*hub.Event
		err := l.query(ctx, "read what may be unpublished", func(ctx context.Context) (err error) {
			events, err = collect(l.conn.Query(ctx, `SELECT `+eventColumns+` FROM reelay.log
				WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3`, from, l.head, batchSize))
			return err
		})
		if err != nil {
			return err
		}
		if len(events) == 0 { // trimmed meanwhile
			break
		}
		// Not from the mark: where the first of them are trimmed, replicas must see that they missed something.
		last := events[len(events)-1].Position
		l.publish(ctx, events[0].Position-1, last, events)
		from = last
	}
	l.publish(ctx, l.head, l.head, nil)
	return nil
}

// relay drains the outbox and publishes, until the session ends.
func (l *leadership) relay(ctx context.Context) error {
	alarm := newAlarm(l.conn, l.wake)
	defer alarm.close()
	if err := alarm.set(ctx); err != nil {
		return err
	}
	defer l.behind.Wait()
	nextBeat := time.Now()
	for {
		if !time.Now().Before(nextBeat) {
			if err := l.beat(ctx); err != nil {
				return err
			}
			nextBeat = time.Now().Add(beatEvery)
		}
		if l.low.due() {
			raise := func(ctx context.Context) error { return l.low.raise(ctx, l.conn) }
			if err := l.query(ctx, "raise the low bound", raise); err != nil {
				return err
			}
		}
		if err := alarm.settle(ctx); err != nil {
			return err
		}
		events, err := l.drain(ctx)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			l.behind.Wait() // batches are published in order
			from, head := events[0].Position-1, l.head
			l.behind.Go(func() { l.publish(ctx, from, head, events) })
		}
		if err := alarm.wait(ctx, len(events), nextBeat); err != nil {
			return err
		}
	}
}

// drainStatement moves one batch from the outbox to the log and numbers it: one statement, one transaction.
// $1 our epoch, $2 the low bound, $3 what was handed to the bus, $4 the size of a batch, $5 the state's generation.
//
// The rows are deleted by a range over the statement's own snapshot, not by a join: a join planned while the outbox
// was empty compares everything with everything once it is full.
//
// Owners are sorted by their bytes, COLLATE "C": by the rules of the database's language it takes many times as long.
const drainStatement = `
WITH batch AS MATERIALIZED (
	SELECT max(id) AS top, count(*) AS size
	FROM (SELECT id FROM reelay.outbox WHERE id > $2 ORDER BY id LIMIT $4) waiting
), numbered AS (
	UPDATE reelay.state SET last_position = last_position + batch.size, published = greatest(published, $3)
	FROM batch WHERE generation = $5 AND epoch = $1 AND batch.size > 0
	RETURNING last_position - batch.size AS base
), moved AS (
	DELETE FROM reelay.outbox
	WHERE id > $2 AND id <= (SELECT top FROM batch) AND EXISTS (SELECT FROM numbered)
	RETURNING id, owner, subject, type, data, created_at
), heads AS (
	INSERT INTO reelay.owner_head AS h (owner, sequence)
	SELECT owner, count(*) FROM moved GROUP BY owner ORDER BY owner COLLATE "C"
	ON CONFLICT (owner) DO UPDATE SET sequence = h.sequence + excluded.sequence
	RETURNING owner, sequence
)
INSERT INTO reelay.log (position, owner, sequence, outbox_id, subject, type, data, created_at)
SELECT (SELECT base FROM numbered) + row_number() OVER (ORDER BY m.id), m.owner,
	h.sequence + 1 - row_number() OVER (PARTITION BY m.owner COLLATE "C" ORDER BY m.id DESC),
	m.id, m.subject, m.type, m.data, m.created_at
FROM moved m JOIN heads h ON h.owner = m.owner
RETURNING ` + eventColumns

// drain gives positions to the next rows of the outbox. None means that there is nothing, or that we are fenced off;
// the next beat tells.
func (l *leadership) drain(ctx context.Context) ([]*hub.Event, error) {
	var events []*hub.Event
	handed := l.handed.Load()
	err := l.query(ctx, "drain the outbox", func(ctx context.Context) (err error) {
		events, err = collect(l.conn.Query(ctx, drainStatement, l.epoch, l.low.id, handed, batchSize, l.state))
		return err
	})
	if err != nil || len(events) == 0 {
		return nil, err
	}
	slices.SortFunc(events, func(a, b *hub.Event) int { return int(a.Position - b.Position) })
	l.published = max(l.published, hub.Position(handed)) // the statement wrote the mark
	l.head = events[len(events)-1].Position
	l.low.dirty = true
	l.metrics.numbered(events)
	return events, nil
}

// publish hands a batch to the bus. What the bus refuses is in the log, and the next batch tells every replica that it
// missed something; so there is no second try, which could only come late. A bus that hangs must not cost the lease.
func (l *leadership) publish(ctx context.Context, from, head hub.Position, events []*hub.Event) {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	err := l.bus.Publish(limited, hub.Batch{Log: l.name, Epoch: l.epoch, From: from, Head: head, Events: events})
	l.metrics.published(len(events), time.Since(begin), err)
	if err != nil && ctx.Err() == nil {
		l.log.WarnContext(ctx, "batch not published, replicas read it from the log", "err", err, "events", len(events), "head", head)
	}
	l.handed.Store(max(l.handed.Load(), int64(head)))
}

// beat proves to Postgres and to the replicas that there is a leader, and sees whether it is still this one.
func (l *leadership) beat(ctx context.Context) error {
	err := l.query(ctx, "beat", func(ctx context.Context) error {
		var epoch hub.Epoch
		var state int64
		if err := l.conn.QueryRow(ctx, "SELECT epoch, generation FROM "+theState+" s").Scan(&epoch, &state); err != nil {
			return err
		}
		if epoch != l.epoch || state != l.state {
			return errFenced
		}
		handed := hub.Position(l.handed.Load())
		if l.published >= handed && l.low.stored >= l.low.id {
			return nil // there were no batches
		}
		// A generation takes the versions of a second, so that nobody has to wade through more of them.
		_, err := l.conn.Exec(ctx, `
			UPDATE reelay.state SET published = greatest(published, $3), outbox_low = greatest(outbox_low, $4), generation = generation + 1
			WHERE generation = $2 AND epoch = $1`, l.epoch, l.state, handed, l.low.id)
		if err != nil {
			return err
		}
		l.published, l.low.stored = handed, l.low.id
		l.state++
		return nil
	})
	if err != nil {
		return err
	}
	if l.head > l.extended {
		l.extend(ctx)
	}
	l.behind.Wait()
	l.publish(ctx, l.head, l.head, nil)
	return nil
}

// extend makes partitions ahead of need. Where that fails, because somebody analyzes the log, say, there is room for
// a million events more, and the next beat tries again. When the room is used up, the drain fails.
func (l *leadership) extend(ctx context.Context) {
	err := l.query(ctx, "extend the log", func(ctx context.Context) error {
		_, err := l.conn.Exec(ctx, "SELECT reelay.extend_log()")
		return err
	})
	if err == nil {
		l.extended = l.head
	} else if ctx.Err() == nil {
		l.log.WarnContext(ctx, "log not extended, trying again", "err", err, "in", beatEvery)
	}
}

// query runs do with the leader's deadline: no answer from Postgres for so long ends the term.
func (l *leadership) query(ctx context.Context, doing string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
