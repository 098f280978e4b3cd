package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reelay/reelay/api/client"
)

// leaderWithoutPostgres takes Postgres away from the leader without a word to either: a cable is pulled, or, where there
// are none, the link swallows everything.
func leaderWithoutPostgres(ctx context.Context, e *episode) error {
	leader, others, err := e.leads(ctx)
	if err != nil {
		return err
	}
	e.mind(others...)
	from := now()
	heal := func(context.Context) error { leader.postgres.heal(); return nil }
	if leader.namespace != nil {
		heal = leader.namespace.database.plug
		err = leader.namespace.database.pull(ctx)
	} else {
		e.notef("by a proxy, not by a cable: %v", e.noNetns)
		leader.postgres.swallow(out, in)
	}
	if err != nil {
		return err
	}
	defer func() { _ = heal(context.WithoutCancel(ctx)) }() // again, if it was done; by then the context may be done
	from.certain = time.Now()
	// Not on the one without Postgres: it hears Redis, but what it missed there it cannot read.
	if err := e.recovers(ctx, from, others, nil); err != nil {
		return err
	}
	if err := e.admit(ctx, from, leader); err != nil {
		return err
	}
	e.lasts(ctx, from, e.unplugged)
	quiet := e.probesOf(leader)[0].silence(from.happened, time.Now())
	if err := heal(ctx); err != nil {
		return err
	}
	took, err := e.flow(ctx, now(), e.probesOf(leader))
	e.notef("the replica itself: silent for %s, plugged in again whole after %s", seconds(quiet), seconds(took))
	return err
}

// postgresRestarted restarts Postgres twice. It is away for as long as the replicas take to say that they cannot serve.
func postgresRestarted(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} { // fast, immediate
		if err := e.stopPostgres(ctx, how); err != nil {
			return err
		}
		if err := e.admit(ctx, now(), e.replicas...); err != nil {
			return err
		}
		if err := e.database().Start(ctx); err != nil {
			return err
		}
		if err := e.recovers(ctx, now(), e.replicas, nil); err != nil {
			return err
		}
	}
	return nil
}

// stopPostgres asks Postgres to end, in the way that a signal means, and waits until it has.
func (s *stack) stopPostgres(ctx context.Context, how syscall.Signal) error {
	p := s.database()
	if err := syscall.Kill(p.PID(), how); err != nil {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leaderTerminated ends the leader's session from Postgres's side, a few times, while it publishes.
func leaderTerminated(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	for range 3 {
		if _, err := e.leader(ctx); err != nil {
			return err
		}
		var pid int
		err := e.db.QueryRowContext(ctx, `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&pid)
		if err != nil {
			return fmt.Errorf("find the leader's session: %w", err)
		}
		from := now()
		if _, err := e.db.ExecContext(ctx, "SELECT pg_terminate_backend($1)", pid); err != nil {
			return fmt.Errorf("terminate the leader's session: %w", err)
		}
		for left := 1; left > 0; {
			if err := e.db.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid).Scan(&left); err != nil {
				return fmt.Errorf("wait for the leader's session to end: %w", err)
			}
		}
		from.certain = time.Now()
		if err := e.recovers(ctx, from, e.replicas, nil); err != nil {
			return err
		}
	}
	return nil
}

// postgresFull takes all connections of Postgres, those too that the replicas read the log by. The leader has one, and
// goes on with it; nobody can be served anew.
func postgresFull(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	var idle []*pgconn.PgConn
	release := func() {
		for _, conn := range idle {
			_ = conn.Close(context.WithoutCancel(ctx)) // the server ends the session when the socket closes
		}
		idle = nil
	}
	defer release()
	err := until(ctx, time.Minute, "all connections are taken", func() bool {
		for {
			conn, err := pgconn.Connect(ctx, e.database().URL("postgres"))
			if err != nil {
				break
			}
			idle = append(idle, conn)
		}
		if len(idle) == 0 {
			return false
		}
		// Whoever is ended here tries to come back, and we may be quicker.
		results, err := idle[0].Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reelay'").ReadAll()
		return err == nil && len(results) == 1 && len(results[0].Rows) == 0
	})
	if err != nil {
		return err
	}
	full := now()
	took, err := e.flow(ctx, full, e.probes)
	if err != nil {
		return fmt.Errorf("with Postgres full: %w", err)
	}
	if took > time.Second {
		e.exceeds("with Postgres full, the leader paused for %s", seconds(took))
	}
	if err := e.admit(ctx, full, e.replicas...); err != nil {
		return err
	}
	e.lasts(ctx, full, e.taken)
	e.notef("%d idle sessions", len(idle))
	release()
	return e.recovers(ctx, now(), e.replicas, func() bool {
		return all(e.replicas, func(r *replica) bool { return r.ready(ctx) })
	})
}

// lateCommit leaves a transaction open, with an event in it, while many others begin and commit.
func lateCommit(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	tx, err := e.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	subject := fmt.Sprintf("late-%d", e.random.Int64())
	if _, err := tx.ExecContext(ctx, "SELECT tell($1, $2, $3, 1)", probeUser, subject, lateType); err != nil {
		return fmt.Errorf("write in a transaction: %w", err)
	}
	for range e.across {
		if _, err := e.db.ExecContext(ctx, "SELECT reelay.emit('nobody', 'other', $1)", crowdType); err != nil {
			return fmt.Errorf("commit meanwhile: %w", err)
		}
	}
	if _, err := e.flow(ctx, now(), e.probes); err != nil {
		return fmt.Errorf("with a transaction open: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit late: %w", err)
	}
	committed := time.Now()
	last := committed
	err = until(ctx, recoverLimit, "the late event comes", func() bool {
		return all(e.probes, func(w *watcher) bool {
			at, came := w.lateAt(subject)
			if at.After(last) {
				last = at
			}
			return came
		})
	})
	e.recoveries = append(e.recoveries, last.Sub(committed))
	return err
}

// logTrimmed trims the log behind a client that is away, and has it come back with its cursor. It must be told that
// something is missing.
func logTrimmed(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	// It comes back to another replica: the one that it left may still have in memory what it missed.
	first := e.replicas[e.random.IntN(len(e.replicas))]
	host := e.others(first)[0]
	absent, err := e.gather(ctx, "absent", 1, func(int) *replica { return first })
	if err != nil {
		return err
	}
	absent.disperse()
	if err := e.sendTo(ctx, absent); err != nil {
		return err
	}
	if err := e.trim(ctx, absent.members[0].user); err != nil {
		return err
	}
	cursor := absent.members[0].where()
	socket, err := dialSession(ctx, host.public, absent.members[0].token, url.Values{"after": {cursor}})
	if err != nil {
		return fmt.Errorf("come back with cursor %s: %w", cursor, err)
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	_ = socket.SetReadDeadline(time.Now().Add(recoverLimit)) // the next read says what is wrong
	var said []string
	for len(said) < 3 {
		frame, err := readFrame(socket)
		if err != nil {
			return fmt.Errorf("come back with cursor %s: told %v: %w", cursor, said, err)
		}
		said = append(said, frame.Type+" "+string(frame.Data))
	}
	if !strings.HasPrefix(said[0], client.TypeReady) || !strings.Contains(said[0], `"resumed":false`) ||
		!strings.HasPrefix(said[1], client.TypeReset) || !strings.Contains(said[1], "too_old") || !strings.HasPrefix(said[2], client.TypeSnapshot) {
		e.breaks("who comes back from before a trim is told %v; want ready and not resumed, reset too_old, a snapshot", said)
	}
	return nil
}

// trim writes until the events of a user are in a partition that is full, and drops it.
func (e *episode) trim(ctx context.Context, user string) error {
	kept := func() (count int, err error) {
		err = e.db.QueryRowContext(ctx, "SELECT count(*) FROM reelay.log WHERE owner = $1", user).Scan(&count)
		return count, err
	}
	written := 0
	for {
		_, err := e.db.ExecContext(ctx, "SELECT reelay.emit('nobody', n::text, $1) FROM generate_series(1, 1000) n", crowdType)
		if err != nil {
			return fmt.Errorf("fill the log: %w", err)
		}
		written += 1000
		if _, err := e.db.ExecContext(ctx, "SELECT reelay.extend_log()"); err != nil && !isLocked(err) {
			return fmt.Errorf("make room in the log: %w", err)
		}
		_, err = e.db.ExecContext(ctx, "SELECT reelay.trim_log('0s')")
		if err != nil && !isLocked(err) { // somebody reads it: the next time, then
			return fmt.Errorf("trim the log: %w", err)
		}
		left, err := kept()
		if err != nil {
			return fmt.Errorf("look at the log: %w", err)
		}
		var head int
		if err := e.db.QueryRowContext(ctx, "SELECT coalesce(max(sequence), 0) FROM reelay.owner_head WHERE owner = $1", user).Scan(&head); err != nil {
			return fmt.Errorf("look at the log: %w", err)
		}
		if left == 0 && head > 0 {
			e.notef("behind %d events", written)
			return nil
		}
		if written > 20*e.config.width {
			return fmt.Errorf("after %d events the log of %s is still there", written, user)
		}
	}
}

// isLocked tells the error of a statement that would not wait for a lock.
func isLocked(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "55P03"
}
