package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// For tests from outside.

// LeaderSession is what the leader's session asks of Postgres.
const LeaderSession = leaderSession

// DrainStatement is how the leader moves a batch; see drainStatement for its parameters.
const DrainStatement = drainStatement

// TheState is where everybody finds the row of reelay.state.
const TheState = theState

// BatchSize is how many events a batch has at the most.
const BatchSize = batchSize

// Alarm is the leader's alarm clock without the leader: its beat, a second apart, would hide a wake-up that was lost.
type Alarm struct{ alarm }

// NewAlarm returns an alarm that listens on conn.
func NewAlarm(conn *pgx.Conn, mode Wake) *Alarm { return &Alarm{*newAlarm(conn, mode)} }

// Set does what a new leader does first.
func (a *Alarm) Set(ctx context.Context) error { return a.set(ctx) }

// Settle comes before a drain.
func (a *Alarm) Settle(ctx context.Context) error { return a.settle(ctx) }

// Wait comes after it.
func (a *Alarm) Wait(ctx context.Context, drained int, deadline time.Time) error {
	return a.wait(ctx, drained, deadline)
}

// Sleeps says that nothing but a NOTIFY or the deadline will end the next Wait.
func (a *Alarm) Sleeps(drained int) bool {
	return !a.awake && (!a.settling || a.settled && drained == 0)
}
