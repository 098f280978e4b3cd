package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/reelay/reelay/hub"
)

// Wake is how writers and the leader find each other.
type Wake string

const (
	// WakeAuto lets writers NOTIFY a leader that sleeps, and lets a busy one poll, so that they need not.
	WakeAuto Wake = "auto"
	// WakeNotify lets every writer NOTIFY. It costs a busy database most of its throughput.
	WakeNotify Wake = "notify"
	// WakePoll lets nobody NOTIFY. Applications that use PREPARE TRANSACTION need it: Postgres refuses that after NOTIFY.
	WakePoll Wake = "poll"
)

const (
	// batchSize bounds what one transaction of the leader moves.
	batchSize = 1000
	// republishLimit bounds what a new leader publishes again. Behind that many events replicas are better served by the log.
	republishLimit = 10 * batchSize
	// publishLimit is how long a batch may take to be published. A bus has a shorter limit of its own; this one keeps the
	// leader's session alive whatever a bus does.
	publishLimit = time.Second
	// repeatEvery is how often the log repeats why there is no standing for leader.
	repeatEvery = time.Minute
	// trimEvery is how often the leader looks for partitions that are past the retention.
	trimEvery = time.Minute
)

// publisher hands a batch to all replicas. An error means that some of them may not have got all of it.
type publisher interface {
	Publish(ctx context.Context, batch hub.Batch) error
}

// RelayConfig is what a Relay is made of.
type RelayConfig struct {
	// URL leads straight to Postgres, not through a pooler in transaction mode.
	URL string
	// Retention is how long events are kept at least.
	Retention time.Duration
	// Wake is WakeAuto if empty.
	Wake    Wake
	Log     *slog.Logger
	Metrics *Metrics
}

// Relay is one replica's candidacy for leader, and the leader's work while it is the one.
type Relay struct {
	url       string
	retention time.Duration
	wake      Wake
	bus       publisher
	log       *slog.Logger
	metrics   *Metrics
}

// NewRelay returns a Relay that publishes to bus.
func NewRelay(config RelayConfig, bus publisher) *Relay {
	if config.Wake == "" {
		config.Wake = WakeAuto
	}
	return &Relay{
		url: config.URL, retention: config.Retention, wake: config.Wake,
		bus: bus, log: config.Log, metrics: config.Metrics,
	}
}

// Run stands for election and leads, again and again, until ctx ends; then it returns nil. It returns ErrPooler, since
// no further try would end otherwise; everything else it tries again, for as long as it takes.
func (r *Relay) Run(ctx context.Context) error {
	var told string // the last reason logged, and when: four tries a second need not each say the same
	var toldAt time.Time
	for ctx.Err() == nil {
		led, err := r.stand(ctx)
		if errors.Is(err, ErrPooler) {
			return fmt.Errorf("relay: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		reason := Reason(err)
		r.metrics.endings.WithLabelValues(reason).Inc()
		switch {
		case led:
			r.log.WarnContext(ctx, "leadership lost", "reason", reason, "err", err)
			told = ""
		case reason != told || time.Since(toldAt) > repeatEvery:
			r.log.WarnContext(ctx, "cannot stand for leader, trying on", "reason", reason, "err", err)
			told, toldAt = reason, time.Now()
		}
		// All replicas lose Postgres at the same moment, and come back apart.
		_ = pause(ctx, tryEvery/2+rand.N(tryEvery))
	}
	return nil
}

// stand waits for the lock and leads. It returns when the session is gone, and whether it led.
func (r *Relay) stand(ctx context.Context) (led bool, err error) {
	conn, err := r.connect(ctx)
	if err != nil {
		return false, err
	}
	defer disconnect(ctx, conn)
	if err := waitForLock(ctx, conn); err != nil {
		return false, err
	}
	return true, r.lead(ctx, conn)
}

// lead does the leader's work until the session ends.
func (r *Relay) lead(ctx context.Context, conn *pgx.Conn) error {
	l := &leadership{Relay: r, conn: conn}
	if err := l.takeOver(ctx); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "leadership gained", "epoch", l.epoch, "position", l.head, "log", l.name)
	r.metrics.leader.Set(1)
	defer r.metrics.leader.Set(0)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.relay(ctx) })
	group.Go(func() error { return r.trim(ctx) })
	group.Go(func() error { return r.mend(ctx) })
	return group.Wait()
}

// trim drops what is past the retention, and revocations that are over, on a connection of its own: what waits for a lock must not hold up the drain.
func (r *Relay) trim(ctx context.Context) error {
	for {
		err := withConn(ctx, r.url, func(conn *pgx.Conn) error {
			var dropped, over int
			revoked := conn.QueryRow(ctx, "SELECT reelay.trim_revocations()").Scan(&over)
			if over > 0 {
				r.log.InfoContext(ctx, "revocations trimmed", "over", over)
			}
			err := conn.QueryRow(ctx, "SELECT reelay.trim_log($1)", r.retention).Scan(&dropped)
			if dropped > 0 {
				r.log.InfoContext(ctx, "log trimmed", "partitions", dropped, "retention", r.retention)
			}
			return errors.Join(revoked, err)
		})
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "log not trimmed, trying again", "err", err, "in", trimEvery)
		}
		if pause(ctx, trimEvery) != nil {
			return nil
		}
	}
}
