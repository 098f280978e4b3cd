package pg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// tryEvery is how often a standby tries the lock: a killed leader is replaced within it.
	tryEvery = 250 * time.Millisecond
	// beatEvery is how often a leader speaks, to Postgres and on the bus.
	beatEvery = time.Second
	// statementLimit is how long the leader waits for Postgres before it gives the connection up. Together with the
	// lease it bounds how long a leader that was cut off believes in itself.
	statementLimit = 3 * time.Second
)

// leaderSession is what the leader's session asks of Postgres. The lease is what matters: a session that is silent for
// three seconds is ended by the server, whatever TCP believes, and so loses the lock. A frozen process and a host that
// vanished are the same to it. The others cover a server that waits for the network: they are what TCP can do.
const leaderSession = `
SET application_name = 'reelay leader';
SET idle_session_timeout = '3s';
SET idle_in_transaction_session_timeout = '3s';
SET statement_timeout = '10s';
SET lock_timeout = '2s';
-- Whatever the default of the database or the role is: only this one sees what others commit meanwhile.
SET default_transaction_isolation = 'read committed';
SET tcp_user_timeout = '6s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET jit = off;
-- The outbox swings between empty and full: a plan made for one is ruinous for the other, and one that is made anew each
-- time takes longer than moving some events. So there is one plan, in which nothing grows with the square of a batch.
SET plan_cache_mode = force_generic_plan;
SET enable_nestloop = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off`

// lockKey names the lock of the leader, one for each database.
const lockKey = "hashtextextended('reelay leader', 0)"

var errReadOnly = errors.New("the server is read-only (a standby): nobody can lead on it")

// connect opens the session of a candidate, which becomes the leader's if it gets the lock.
func (r *Relay) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	config, err := pgx.ParseConfig(r.url)
	if err != nil {
		return nil, parseError(err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := prepareSession(ctx, conn); err != nil {
		disconnect(ctx, conn)
		return nil, err
	}
	return conn, nil
}

func prepareSession(ctx context.Context, conn *pgx.Conn) error {
	// First, since behind a pooler the session belongs to others too; and in one message, which a pooler lets through.
	var pid uint32
	var standby bool
	err := conn.QueryRow(ctx, "SELECT pg_backend_pid(), pg_is_in_recovery()", pgx.QueryExecModeSimpleProtocol).Scan(&pid, &standby)
	if err != nil {
		return fmt.Errorf("look at the session: %w", err)
	}
	if pid != conn.PgConn().PID() {
		return ErrPooler
	}
	if standby {
		return errReadOnly
	}
	if _, err := conn.Exec(ctx, leaderSession); err != nil {
		return fmt.Errorf("set up the session: %w", err)
	}
	// Only Linux servers can see a client go while a statement runs. Without it the statement's own timeout ends it.
	_, err = conn.Exec(ctx, "SET client_connection_check_interval = '1s'")
	var answer *pgconn.PgError
	if err != nil && !errors.As(err, &answer) {
		return fmt.Errorf("set up the session: %w", err)
	}
	return nil
}

// waitForLock returns when this session holds the lock, or with an error when the session or ctx ends.
func waitForLock(ctx context.Context, conn *pgx.Conn) error {
	for {
		if locked, err := tryLock(ctx, conn); locked || err != nil {
			return err
		}
		// Jitter, so that replicas that started together do not ask together.
		if err := pause(ctx, tryEvery*3/4+rand.N(tryEvery/4)); err != nil {
			return err
		}
	}
}

func tryLock(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock("+lockKey+")").Scan(&locked)
	if err != nil {
		return false, fmt.Errorf("try the leader's lock: %w", err)
	}
	return locked, nil
}

// disconnect ends a session in good manners, so that its lock is free at once, but does not wait for a dead server.
func disconnect(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing is left to be saved: the server ends the session when the socket closes
	// After an interrupted statement it is pgx that says goodbye, in the background. With a server that is not dead
	// this takes a moment, and it is worth it: then no goroutine is left, and the lock is free.
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
		_ = conn.PgConn().Conn().Close()
	}
}

// pause waits, or returns ctx's error when it ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
