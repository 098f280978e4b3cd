package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// recoverLimit is how long a recovery is waited for before it counts as none.
	recoverLimit = time.Minute
	// truthLimit is what "within seconds" means for /readyz and for what sessions are told: a replica finds a Postgres
	// that answers nothing within four.
	truthLimit = 5 * time.Second
	// silenceLimit is how long a replica may be without events while it has not noticed yet that Redis is dead: three
	// seconds of silence, and what it takes to read the log.
	silenceLimit = 5 * time.Second
)

// timing says how long faults last and how large they are.
type timing struct {
	frozen      time.Duration // a leader that is stopped
	unplugged   time.Duration // a leader without Postgres
	swallowed   time.Duration // a leader without Redis
	redisGone   time.Duration
	redisFrozen time.Duration
	cutOff      time.Duration // a replica without Redis
	taken       time.Duration // all connections of Postgres
	keysGone    time.Duration // the issuer's key server
	clockWrong  time.Duration
	behind      int // probes that a standby lacks
	across      int // transactions that commit while one stays open
	crowd       int // clients of a follower that is killed
	herd        int // clients that come back at once
	burst       int // events at once
	flood       int // kilobytes for a replica that is slow to take them
}

var (
	fullTiming = timing{
		frozen: 30 * time.Second, unplugged: 12 * time.Second, swallowed: 10 * time.Second, redisGone: 3 * time.Second,
		redisFrozen: 10 * time.Second, cutOff: 15 * time.Second, taken: 8 * time.Second, clockWrong: 10 * time.Second,
		keysGone: 45 * time.Second, behind: 100, across: 5000, crowd: 1000, herd: 10_000, burst: 10_000, flood: 16_000,
	}
	shortTiming = timing{
		frozen: 8 * time.Second, unplugged: 6 * time.Second, swallowed: 5 * time.Second, redisGone: time.Second,
		redisFrozen: 5 * time.Second, cutOff: 5 * time.Second, taken: 2 * time.Second, clockWrong: 2 * time.Second,
		keysGone: 8 * time.Second, behind: 30, across: 300, crowd: 100, herd: 300, burst: 2000, flood: 12_000,
	}
)

// episode is one playing of one fault: its means, and what it showed.
type episode struct {
	*campaign
	timing
	random *rand.Rand
	fault  *fault
	began  time.Time
	minded []*watcher // whose silence counts

	recoveries []time.Duration
	silence    time.Duration // the longest
	untruth    time.Duration // the longest
	skipped    string        // why it was not played
	verdict    verdict       // of all comparisons
	broken     []string      // promises
	late       []string      // bounds
	notes      []string
}

// breaks notes a promise that was broken, exceeds a bound that was not kept, notef what is worth knowing.
func (e *episode) breaks(format string, args ...any) {
	e.broken = append(e.broken, fmt.Sprintf(format, args...))
}

func (e *episode) exceeds(format string, args ...any) {
	e.late = append(e.late, fmt.Sprintf(format, args...))
}

func (e *episode) notef(format string, args ...any) {
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
}

// leads returns the leader and the others.
func (e *episode) leads(ctx context.Context) (leader *replica, others []*replica, err error) {
	if leader, err = e.leader(ctx); err != nil {
		return nil, nil, err
	}
	return leader, e.others(leader), nil
}

// someFollower returns a replica that does not lead.
func (e *episode) someFollower(ctx context.Context) (*replica, error) {
	_, followers, err := e.leads(ctx)
	if err != nil {
		return nil, err
	}
	return followers[e.random.IntN(len(followers))], nil
}

// mind makes the silence on these replicas count, and not that on others, which are dead or frozen.
func (e *episode) mind(replicas ...*replica) { e.minded = e.probesOf(replicas...) }

// moment is when something happened, and by when it surely had: only an event that was begun after that proves anything.
type moment struct{ happened, certain time.Time }

// now is a moment of which there is no doubt.
func now() moment {
	t := time.Now()
	return moment{t, t}
}

// flow waits until each of these sessions has a probe that was begun after a moment, and returns how long after it the
// last of them had.
func (e *episode) flow(ctx context.Context, from moment, sessions []*watcher) (time.Duration, error) {
	number := e.prober.since(from.certain)
	last := from.happened
	err := until(ctx, recoverLimit, "events flow again", func() bool {
		for _, w := range sessions {
			at, came := w.probeSince(number)
			if !came {
				return false
			}
			if at.After(last) {
				last = at
			}
		}
		return true
	})
	return last.Sub(from.happened), err
}

// recovers waits for the recovery that the fault's bound is about, and notes how long after from it came: events flow,
// on all these replicas, and also is true, unless that is nil.
func (e *episode) recovers(ctx context.Context, from moment, replicas []*replica, also func() bool) error {
	took, err := e.flow(ctx, from, e.probesOf(replicas...))
	if err == nil && also != nil && !also() {
		err = until(ctx, recoverLimit, "all is as it should be", also)
		took = time.Since(from.happened)
	}
	e.recoveries = append(e.recoveries, took)
	return err
}

// lasts waits until the fault has lasted so long.
func (e *episode) lasts(ctx context.Context, since moment, d time.Duration) {
	pause(ctx, time.Until(since.happened.Add(d)))
}

// unhindered notes how slow the slowest commit was since a moment. No fault of ours may slow a writer down.
func (e *episode) unhindered(since moment) {
	const most = time.Second
	if slowest := e.prober.slowest(since.happened); slowest > most {
		e.exceeds("a commit took %s", seconds(slowest))
	}
}

// admit waits until these replicas say that they are not ready, which is the truth since a moment, and until they have
// told their sessions.
func (e *episode) admit(ctx context.Context, since moment, replicas ...*replica) error {
	// Not by the sentries, who are busy for seconds with a session that does not open.
	ready := func(r *replica) bool { return r.ready(ctx) }
	if err := until(ctx, recoverLimit, "/readyz says no", func() bool { return !slices.ContainsFunc(replicas, ready) }); err != nil {
		return err
	}
	if took := time.Since(since.happened); took > truthLimit {
		e.exceeds("/readyz said yes for %s after it was wrong", seconds(took))
	}
	for _, w := range e.probesOf(replicas...) {
		var at time.Time
		err := until(ctx, recoverLimit, "a session is told that events cannot be read", func() (told bool) {
			at, told = w.toldSince(since.happened)
			return told
		})
		if err != nil {
			return err
		}
		if took := at.Sub(since.happened); took > truthLimit {
			e.exceeds("%s was told that events cannot be read after %s", w.name, seconds(took))
		}
		e.notef("%s was told after %s", w.name, seconds(at.Sub(since.happened)))
	}
	return nil
}

// counted returns by how much a metric of these replicas has grown when it is called.
func counted(ctx context.Context, replicas []*replica, name string) func() int {
	before := metricsOf(ctx, replicas).sum(name)
	return func() int { return int(metricsOf(ctx, replicas).sum(name) - before) }
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
