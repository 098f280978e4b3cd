package pg

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// revocationsEvery is how often a replica looks for revocations: a quarter of the second in which a socket has to be
// closed, so that an answer may come late, and what one look misses the next one finds.
const revocationsEvery = 250 * time.Millisecond

// forgetEvery is how often what is over is forgotten. Until then it costs some bytes, and nothing else.
const forgetEvery = time.Minute

// Revocation says that a user's sockets, or those of one token, are to be closed, and what is refused from then on.
type Revocation struct {
	// User is whom reelay.disconnect named, or empty. Tokens of the user issued up to At are refused.
	User string
	// TokenID is what reelay.revoke_token named, the claim jti of a token, or empty. Exactly one of the two is set.
	TokenID string
	// At is when the transaction committed, by Postgres's clock.
	At time.Time
	// Until is when the revocation is over: what the caller said and some minutes more, since clocks differ and
	// verifiers are lenient. What was to last for ever ends in the year 9999.
	Until time.Time
	// Reason is what the caller gave, at most 256 characters, which may be any; for logs.
	Reason string
}

// Revocations hears of what reelay.disconnect and reelay.revoke_token revoke. Each replica reads by itself, from
// Postgres alone: neither a leader that dies nor a Redis that is away delays it.
//
// No commit is missed, however late it comes. A transaction that a snapshot did not see has an id of at least that
// snapshot's xmin, and so each look asks for those; what it knows already it leaves out. A server that crashed may give
// ids again that it gave to transactions which nobody heard of, and so may a restored one: when another server process
// answers, or the log has another past, everything in force is read again.
type Revocations struct {
	log     *Log
	apply   func(Revocation)
	logger  *slog.Logger
	metrics *Metrics

	loaded atomic.Bool

	// Of Run alone.
	source    source
	xmin      uint64                      // of the last look's snapshot
	known     map[revocationKey]time.Time // until when
	forgotten time.Time                   // when known was last rid of what is over
}

// source says where an answer came from: rows below xmin are known only as long as it stays the same.
type source struct {
	log, history string
	pid          uint32
}

// revocationKey names a row. An id alone may be given again after a crash or a restore; not at the same microsecond.
type revocationKey struct {
	id int64
	at int64 // microseconds
}

// NewRevocations returns a Revocations that reads by log's connections, of which it keeps one for itself. apply is
// called from one goroutine, for each revocation once, in no order that means anything; while it works, no other is read.
func NewRevocations(log *Log, apply func(Revocation), logger *slog.Logger, metrics *Metrics) *Revocations {
	return &Revocations{log: log, apply: apply, logger: logger, metrics: metrics, known: make(map[revocationKey]time.Time)}
}

// Loaded reports whether everything in force has been applied once. Before that, who is let in may have been revoked.
// It stays true when Postgres goes away: nothing can be revoked then, either. It is safe for concurrent use.
func (r *Revocations) Loaded() bool { return r.loaded.Load() }

// Run reads until ctx ends, and returns nil then. Whatever Postgres answers, it tries again.
func (r *Revocations) Run(ctx context.Context) error {
	healthy := true
	for ctx.Err() == nil {
		err := r.follow(ctx, func() {
			if !healthy {
				r.logger.InfoContext(ctx, "revocations are read again")
			}
			healthy = true
		})
		if ctx.Err() != nil {
			break
		}
		if healthy {
			r.logger.WarnContext(ctx, "revocations cannot be read, trying on", "reason", Reason(err), "err", err, "every", revocationsEvery)
		}
		healthy = false
		_ = jitter(ctx)
	}
	return nil
}

// follow reads on one connection, again and again, until that fails. It calls ok after each look.
func (r *Revocations) follow(ctx context.Context, ok func()) error {
	limited, cancel := context.WithTimeout(ctx, statementLimit)
	conn, err := r.log.pool.Acquire(limited)
	cancel()
	if err != nil {
		r.metrics.lookedForRevocations(err)
		return fmt.Errorf("read revocations: %w", err)
	}
	defer conn.Release()
	r.source = source{} // whatever happened since the last connection
	for {
		if err := r.look(ctx, conn); err != nil {
			return schemaError(err, "read revocations")
		}
		r.loaded.Store(true)
		ok()
		if err := jitter(ctx); err != nil {
			return err
		}
	}
}

// look applies what is new.
func (r *Revocations) look(ctx context.Context, conn *pgxpool.Conn) error {
	from := r.xmin
	if r.source == (source{}) {
		from = 0
	}
	a, err := r.read(ctx, conn, from)
	if err == nil && from > 0 && (a.source != r.source || a.xmin < r.xmin) {
		a, err = r.read(ctx, conn, 0)
	}
	r.metrics.lookedForRevocations(err)
	if err != nil {
		return err
	}
	for i, key := range a.keys {
		if _, known := r.known[key]; !known {
			r.known[key] = a.revocations[i].Until
			r.apply(a.revocations[i])
		}
	}
	r.source, r.xmin = a.source, a.xmin
	if a.now.Sub(r.forgotten) > forgetEvery {
		maps.DeleteFunc(r.known, func(_ revocationKey, until time.Time) bool { return until.Before(a.now) })
		r.forgotten = a.now
	}
	r.metrics.revocations.Set(float64(len(r.known)))
	return nil
}

// revocationsAnswer is what one look saw, by one snapshot.
type revocationsAnswer struct {
	source      source
	xmin        uint64
	now         time.Time // Postgres's
	keys        []revocationKey
	revocations []Revocation // of the keys
}

// read returns what is in force, of transactions from xmin on.
func (r *Revocations) read(ctx context.Context, conn *pgxpool.Conn, xmin uint64) (a revocationsAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	// One statement, so one snapshot: its xmin belongs to the rows. A standby has no history that could be asked for.
	// Times beyond what Go can read are brought within.
	rows, err := conn.Query(ctx, `
		SELECT pg_is_in_recovery(), s.log, CASE WHEN pg_is_in_recovery() THEN '' ELSE reelay.history() END, pg_backend_pid(),
			pg_snapshot_xmin(pg_current_snapshot())::text::bigint, now(),
			r.id, coalesce(r.user_id, ''), coalesce(r.token_id, ''), coalesce(r.reason, ''), r.at, least(r.until, '9999-12-01') + reelay.revocation_slack()
		FROM `+theState+` s LEFT JOIN reelay.revocation r
			ON r.xid >= $1::text::xid8 AND r.at IS NOT NULL AND r.until > now() - reelay.revocation_slack()
		ORDER BY r.id`, strconv.FormatUint(xmin, 10))
	if err != nil {
		return a, err
	}
	defer rows.Close()
	for rows.Next() {
		var standby bool
		var id *int64
		var at, until *time.Time
		var found Revocation
		if err := rows.Scan(&standby, &a.source.log, &a.source.history, &a.source.pid, &a.xmin, &a.now,
			&id, &found.User, &found.TokenID, &found.Reason, &at, &until); err != nil {
			return a, err
		}
		if standby {
			// As for the heads: this connection leads to what was the primary once, and misses what is revoked now.
			r.log.pool.Reset()
			return a, errReadOnly
		}
		if id != nil { // or there is none
			found.At, found.Until = *at, *until
			a.keys = append(a.keys, revocationKey{*id, at.UnixMicro()})
			a.revocations = append(a.revocations, found)
		}
	}
	return a, rows.Err()
}

// jitter waits until the next look. Replicas that lost Postgres together come back apart.
func jitter(ctx context.Context) error {
	return pause(ctx, revocationsEvery*3/4+rand.N(revocationsEvery/4))
}
