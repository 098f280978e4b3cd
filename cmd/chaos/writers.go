package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

var errRolledBack = errors.New("rolled back on purpose")

// writers is the application: many connections that insert, update, hand over and delete videos, in statements and
// transactions of all kinds, some of which they roll back.
type writers struct {
	db    *sql.DB
	users []string
	limit int64 // transactions to be committed; 0: until stopped
	pace  time.Duration

	gate      sync.RWMutex // held for reading during a transaction: who holds it for writing knows that none is under way
	made      atomic.Int64 // videos named so far
	committed atomic.Int64
	failed    atomic.Int64 // transactions whose end is not known, or that an outage ended
}

// run writes with so many connections until limit is reached or ctx ends. An error of the application's own SQL ends
// it; the errors of an outage it waits out.
func (w *writers) run(ctx context.Context, connections int, seed uint64) error {
	var wg sync.WaitGroup
	errs := make(chan error, connections)
	for i := range connections {
		wg.Go(func() { errs <- w.write(ctx, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (w *writers) write(ctx context.Context, random *rand.Rand) error {
	for ctx.Err() == nil {
		if w.limit > 0 && w.committed.Load() >= w.limit {
			return nil
		}
		w.gate.RLock()
		err := w.transaction(ctx, random)
		w.gate.RUnlock()
		switch {
		case err == nil:
			w.committed.Add(1)
		case errors.Is(err, errRolledBack):
		case ctx.Err() != nil:
			return nil
		case isOutage(err):
			w.failed.Add(1)
			pause(ctx, 50*time.Millisecond)
		default:
			return fmt.Errorf("the application's transaction: %w", err)
		}
		pause(ctx, time.Duration(random.Int64N(int64(2*w.pace+1))))
	}
	return nil
}

func (w *writers) transaction(ctx context.Context, random *rand.Rand) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	for range 1 + random.IntN(3) {
		if err := w.step(ctx, tx, random); err != nil {
			return err
		}
	}
	if random.IntN(10) == 0 {
		return errRolledBack
	}
	return tx.Commit()
}

// step is one statement, or a savepoint with some. Statements that touch several rows lock them in the order of their
// ids first, as an application does that wants no deadlocks; so a deadlock would be Reelay's.
func (w *writers) step(ctx context.Context, tx *sql.Tx, random *rand.Rand) error {
	user := func() string { return w.users[random.IntN(len(w.users))] }
	status := []string{"pending", "processing", "ready", "failed"}[random.IntN(4)]
	exec := func(statement string, args ...any) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	}
	// Videos are picked by rank, without a lock: a video that is locked or gone by then is simply not changed.
	const some = "SELECT id FROM videos WHERE user_id = $1 ORDER BY id LIMIT 1 OFFSET $2 FOR UPDATE SKIP LOCKED"
	rank := random.IntN(10)
	switch kind := random.IntN(100); {
	case kind < 12:
		// Ten videos a user, about: who has more loses one elsewhere.
		return exec("INSERT INTO videos (id, user_id) SELECT $1, $2 WHERE (SELECT count(*) FROM videos WHERE user_id = $2) < 12",
			fmt.Sprintf("v%d", w.made.Add(1)), user())
	case kind < 20:
		return exec("INSERT INTO videos (id, user_id, processing_status) SELECT $1 || '-' || i, $2, 'processing' FROM generate_series(1, 3) i WHERE (SELECT count(*) FROM videos WHERE user_id = $2) < 10",
			fmt.Sprintf("w%d", w.made.Add(1)), user())
	case kind < 60:
		return exec("UPDATE videos SET processing_status = $3, version = version + 1 WHERE id IN ("+some+")", user(), rank, status)
	case kind < 70:
		return exec("UPDATE videos SET processing_status = $2, version = version + 1 WHERE id IN (SELECT id FROM videos WHERE user_id = $1 ORDER BY id FOR UPDATE SKIP LOCKED)", user(), status)
	case kind < 82:
		return exec("UPDATE videos SET user_id = $3, version = version + 1 WHERE id IN ("+some+") AND user_id <> $3", user(), rank, user())
	case kind < 88:
		return exec("DELETE FROM videos WHERE id IN ("+some+")", user(), rank)
	case kind < 92:
		return exec("SELECT tell($1, $2, 'video.progress', 1)", user(), fmt.Sprintf("p%d", w.made.Add(1)))
	default:
		if err := exec("SAVEPOINT s"); err != nil {
			return err
		}
		if err := exec("UPDATE videos SET processing_status = $3, version = version + 1 WHERE id IN ("+some+")", user(), rank, status); err != nil {
			return err
		}
		if random.IntN(2) == 0 {
			return exec("ROLLBACK TO SAVEPOINT s")
		}
		return exec("RELEASE SAVEPOINT s")
	}
}
