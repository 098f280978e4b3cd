package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// leaderKilled kills the leader. What it had numbered and not published, its successor has to publish.
func leaderKilled(ctx context.Context, e *episode) error {
	leader, others, err := e.leads(ctx)
	if err != nil {
		return err
	}
	e.mind(others...)
	from, err := leader.kill()
	if err != nil {
		return err
	}
	if err := e.recovers(ctx, from, others, nil); err != nil {
		return err
	}
	return leader.restart()
}

// leaderFrozen stops the leader where it stands, for longer than its lease, and lets it go on. What it had in hand is on
// its way to Redis at that moment, and arrives there after what its successor published.
func leaderFrozen(ctx context.Context, e *episode) error {
	leader, others, err := e.leads(ctx)
	if err != nil {
		return err
	}
	// What it has in hand may be events, which the hub refuses, or a mark alone, which the bus finds old.
	refused := counted(ctx, e.replicas, "reelay_hub_refused_total")
	rejected := counted(ctx, e.replicas, "reelay_bus_messages_rejected_total")
	e.mind(others...)
	leader.redis.swallow(out)
	defer leader.redis.heal()
	if err := until(ctx, recoverLimit, "the leader has something in hand", leader.redis.holds); err != nil {
		return err
	}
	from := now()
	if err := leader.freeze(ctx); err != nil {
		return err
	}
	from.certain = time.Now()
	if err := e.recovers(ctx, from, others, nil); err != nil {
		return err
	}
	e.lasts(ctx, from, e.frozen)
	leader.redis.heal()
	if err := leader.thaw(); err != nil {
		return err
	}
	if err := e.whole(ctx); err != nil {
		return err
	}
	if n := refused() + rejected(); n > 0 {
		e.notef("%d messages of a leader that was none refused", n)
		return nil
	}
	return errors.New("the frozen leader published nothing when it was none any more: the fault was not played")
}

// followerKilled kills a follower that many clients are connected to, who find another replica with their cursors.
func followerKilled(ctx context.Context, e *episode) error {
	follower, err := e.someFollower(ctx)
	if err != nil {
		return err
	}
	crowd, err := e.gather(ctx, "crowd", e.crowd, func(int) *replica { return follower })
	if err != nil {
		return err
	}
	defer crowd.disperse()
	rest := e.others(follower)
	e.mind(rest...)
	queries := counted(ctx, rest, "reelay_log_queries_total")
	from, err := follower.kill()
	if err != nil {
		return err
	}
	crowd.goTo(rest)
	if err := e.sendTo(ctx, crowd); err != nil {
		return err
	}
	took, err := crowd.wholeAgain(ctx, from.happened)
	e.recoveries = append(e.recoveries, took)
	if err != nil {
		return err
	}
	e.notef("%d queries of the log for %d clients", queries(), len(crowd.members))
	crowd.judge(e)
	return follower.restart()
}

// rollingRestart restarts all replicas by SIGTERM, one by one, as a deployment does. What counts is the longest silence
// of a client that is sent elsewhere.
func rollingRestart(ctx context.Context, e *episode) error {
	e.minded = e.roamers
	for _, n := range e.random.Perm(len(e.replicas)) {
		r := e.replicas[n]
		stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := r.process.Stop(stopping)
		cancel()
		if err != nil {
			return err
		}
		if err := r.start(); err != nil {
			return err
		}
		if err := until(ctx, time.Minute, r.name+" is back", func() bool { return e.well(r) && e.busUp(ctx, r) }); err != nil {
			return err
		}
	}
	for _, w := range e.roamers {
		e.silence = max(e.silence, w.silence(e.began, time.Now()))
	}
	e.recoveries = append(e.recoveries, e.silence)
	return nil
}

// clockWrong sets the clock of one replica wrong, while it runs. Tokens are the only thing that time decides on.
func clockWrong(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	r := e.replicas[e.random.IntN(len(e.replicas))]
	off := clockOff
	if e.random.IntN(2) == 0 {
		off = -off
	}
	restore, err := setClock(ctx, r.process.PID(), off)
	if err != nil {
		return err
	}
	told, err := r.clock(ctx)
	if err != nil {
		return err
	}
	if wrong := time.Until(told); (wrong - off).Abs() > 5*time.Second {
		return fmt.Errorf("the clock of %s should be %v off and is %v", r.name, off, wrong)
	}
	from := now()
	if err := e.recovers(ctx, from, e.replicas, nil); err != nil {
		return err
	}
	// A clock that is wrong is no fault that shows at once: a leader with it should be replaced by one without, and so on.
	leader, err := e.leader(ctx)
	if err != nil {
		return err
	}
	e.lasts(ctx, from, e.clockWrong)
	e.notef("%s %v off, leader: %v", r.name, off, leader == r)
	if _, err := e.flow(ctx, now(), e.probes); err != nil {
		return err
	}
	return restore()
}

// clock returns what a replica takes the time to be.
func (r *replica) clock(ctx context.Context) (time.Time, error) {
	response, err := r.ask(ctx, "/healthz")
	if err != nil {
		return time.Time{}, err
	}
	defer response.Body.Close()
	told, err := time.Parse(time.RFC1123, response.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock of %s: %w", r.name, err)
	}
	return told, nil
}
