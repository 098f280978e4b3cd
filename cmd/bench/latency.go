package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// behindMost is how long after the last commit its event may come for a rate to count as sustained.
	behindMost = 250 * time.Millisecond
	// tries is how often a lower rate is tried until one is sustained.
	tries = 6
	// backOff is how much lower it is each time.
	backOff = 0.85
)

// rates are commits a second; 0 is the highest that is sustained.
var rates = []int{200, 1000, 0}

// listener is a way for events to reach clients: by LISTEN, or by a number of replicas.
type listener struct {
	key, name string
	replicas  int
}

var listeners = []listener{{"listen", "bare LISTEN (limit)", 0}, {"one", "Reelay, 1 replica", 1}, {"three", "Reelay, 3 replicas", 3}}

// latency measures the time from before COMMIT to the client, at several rates of single-row updates.
func latency(ctx context.Context, o options) (*table, error) {
	s, err := start(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	found := make(map[string]*latencies)
	for round := range o.rounds {
		for i := range listeners {
			way := listeners[(i+round)%len(listeners)]
			o.progress.stepf("round %d of %d, %s: connecting", round+1, o.rounds, way.name)
			if err := s.time(ctx, o, way, found, fmt.Sprintf("round %d of %d", round+1, o.rounds)); err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
		}
	}
	return latencyTable(found), nil
}

// latencies is what was measured of one listener at one rate, a value for each round.
type latencies struct {
	commits, p50, p99, most quantity
	lost, twice             int
}

func latencyTable(found map[string]*latencies) *table {
	t := &table{
		Name: "latency", Title: "milliseconds from before COMMIT to the client; 1,000 users with 10 videos and a socket each",
		Columns: append([]column{
			{"rate", "rate", 0}, {"way", "by", 0}, {"commits", "commits/s", 0}, {"p50", "p50 ms", 2}, {"p99", "p99 ms", 2}, {"max", "max ms", 1},
		}, countColumns...),
		Notes: []string{fmt.Sprintf("Sustained: the highest rate at which the last event came within %d ms of the last commit, single rows from %d connections.",
			behindMost.Milliseconds(), singleWriters)},
	}
	p50 := chart{title: "Latency, median", unit: "ms"}
	p99 := chart{title: "Latency, 99th percentile", unit: "ms"}
	sustained := chart{title: "Single-row commits a second, sustained", unit: "commits/s", labels: []string{"sustained"}}
	for _, perSecond := range rates {
		name := rateName(perSecond)
		p50.labels, p99.labels = append(p50.labels, name), append(p99.labels, name)
		for i, way := range listeners {
			l := found[way.key+name]
			r := row{
				"rate": name, "way": way.name, "commits": l.commits.median(), "p50": l.p50.median(), "p99": l.p99.median(),
				"max": quantile(l.most, 1), "lost": l.lost, "twice": l.twice,
			}
			t.add(r)
			if len(p50.series) <= i {
				p50.series, p99.series = append(p50.series, series{name: way.name}), append(p99.series, series{name: way.name})
			}
			p50.series[i].values = append(p50.series[i].values, l.p50.median())
			p99.series[i].values = append(p99.series[i].values, l.p99.median())
			if perSecond == 0 {
				sustained.series = append(sustained.series, series{way.name, []float64{l.commits.median()}})
			}
		}
	}
	t.Charts = []chart{p50, p99, sustained}
	return t
}

func rateName(perSecond int) string {
	if perSecond == 0 {
		return "sustained"
	}
	return grouped(strconv.Itoa(perSecond)) + "/s"
}

// time measures one listener at all rates, and adds the results to found.
func (s *stack) time(ctx context.Context, o options, way listener, found map[string]*latencies, step string) (err error) {
	m := &timing{stack: s, ledger: newLedger(users, perUser)}
	if _, err := s.db.ExecContext(ctx, "UPDATE videos SET progress = 0"); err != nil { // unwatched: no events
		return err
	}
	if way.replicas == 0 {
		err = m.listen(ctx)
	} else {
		err = m.connect(ctx, o, way.replicas)
	}
	defer func() { err = errors.Join(err, m.end(ctx)) }()
	if err != nil {
		return err
	}
	for _, perSecond := range rates {
		o.progress.stepf("%s, %s, %s", step, way.name, rateName(perSecond))
		var r *round
		if perSecond > 0 {
			r, err = m.round(ctx, o.seconds, float64(perSecond))
		} else {
			r, err = m.sustained(ctx, o.seconds)
		}
		if err != nil {
			return err
		}
		key := way.key + rateName(perSecond)
		if found[key] == nil {
			found[key] = new(latencies)
		}
		l := found[key]
		took := r.took()
		l.commits = append(l.commits, float64(r.commits)/r.writing.Seconds())
		l.p50, l.p99, l.most = append(l.p50, quantile(took, 0.5)), append(l.p99, quantile(took, 0.99)), append(l.most, quantile(took, 1))
		l.lost, l.twice = l.lost+r.lost, l.twice+r.twice
	}
	return nil
}

// timing is a listener at work.
type timing struct {
	stack  *stack
	ledger *ledger
	crowd  *crowd // nil for a bare LISTEN
	now    atomic.Pointer[round]
	again  atomic.Int64 // notifications of what had come already
	stop   []func(context.Context) error
}

// round is a while of writing at one rate. Commits have consecutive numbers, of which the first is base + 1.
type round struct {
	zero    time.Time
	base    int64
	begun   []atomic.Int64 // nanoseconds since zero: before the commit with that number
	arrived []atomic.Int64 // at the client; 0 if it has not
	count   atomic.Int64

	commits     int64
	writing     time.Duration // until the last commit
	behind      time.Duration // from the last commit to the last arrival
	lost, twice int
}

// arrive is called when a client has got the event of the commit with a number.
func (m *timing) arrive(number int64, at time.Time) {
	r := m.now.Load()
	if r == nil || number <= r.base || number > r.base+int64(len(r.arrived)) {
		return // of a round before, whose time was up: counted as lost there
	}
	if r.arrived[number-r.base-1].CompareAndSwap(0, int64(at.Sub(r.zero))) {
		r.count.Add(1)
	} else {
		m.again.Add(1)
	}
}

// round writes at a rate (0: as fast as the connections can) and waits for what is under way.
func (m *timing) round(ctx context.Context, d time.Duration, perSecond float64) (*round, error) {
	most := int(perSecond*d.Seconds()) + singleWriters
	if perSecond == 0 {
		most = int(50_000 * d.Seconds()) // nobody commits as many
	}
	r := &round{zero: time.Now(), base: m.ledger.number.Load(), begun: make([]atomic.Int64, most), arrived: make([]atomic.Int64, most)}
	lostBefore, twiceBefore, err := m.wrong()
	if err != nil {
		return nil, err
	}
	writers := load{
		url: m.stack.url(), ledger: m.ledger, writers: singleWriters, pick: oneRow(m.ledger), perSecond: perSecond,
		begin: func(c commit) bool {
			i := c.number - r.base - 1
			if i < int64(len(r.begun)) {
				r.begun[i].Store(int64(time.Since(r.zero)))
			}
			return i < int64(len(r.begun))
		},
	}
	defer writers.close(ctx)
	if err := writers.connect(ctx); err != nil {
		return nil, err
	}
	m.now.Store(r)
	if r.commits, r.writing, err = writers.run(ctx, d); err != nil {
		return nil, err
	}
	written := time.Now()
	for deadline := time.Now().Add(settleLimit); r.count.Load() < r.commits && ctx.Err() == nil && time.Now().Before(deadline); {
		pause(ctx, time.Millisecond)
	}
	r.behind = time.Since(written)
	lost, twice, err := m.wrong()
	r.lost, r.twice = max(lost-lostBefore, int(r.commits-r.count.Load())), twice-twiceBefore
	return r, errors.Join(err, ctx.Err())
}

func (m *timing) wrong() (lost, twice int, err error) {
	if m.crowd == nil {
		return 0, int(m.again.Load()), nil
	}
	select {
	case err := <-m.crowd.failed:
		return 0, 0, err
	default:
		return m.crowd.wrong()
	}
}

// sustained looks for the highest rate at which events keep up with commits, and returns the round at that rate.
func (m *timing) sustained(ctx context.Context, d time.Duration) (*round, error) {
	r, err := m.round(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	// All that arrived, in all the time it took.
	possible := float64(r.commits) / (r.writing + max(0, r.behind-behindMost)).Seconds()
	lost, twice := r.lost, r.twice
	for range tries {
		r, err = m.round(ctx, d, math.Floor(0.95*possible))
		if err != nil {
			return nil, err
		}
		lost, twice = lost+r.lost, twice+r.twice
		if r.behind <= behindMost {
			break
		}
		possible *= backOff
	}
	r.lost, r.twice = lost, twice
	return r, nil
}

// took returns how long each event took that arrived, in milliseconds.
func (r *round) took() []float64 {
	var all []float64
	for i := range r.arrived {
		if at := r.arrived[i].Load(); at > 0 {
			all = append(all, milliseconds(time.Duration(at-r.begun[i].Load())))
		}
	}
	return all
}

// listen hears by a NOTIFY of the row's trigger: the least that there can be between Postgres and a client.
func (m *timing) listen(ctx context.Context) error {
	if err := notifyTrigger(ctx, m.stack.db); err != nil {
		return err
	}
	m.stop = append(m.stop, func(ctx context.Context) error {
		_, err := m.stack.db.ExecContext(ctx, "DROP TRIGGER notify ON videos; DROP FUNCTION notify()")
		return err
	})
	conn, err := pgx.Connect(ctx, m.stack.url())
	if err != nil {
		return err
	}
	listening, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	m.stop = append(m.stop, func(ctx context.Context) error { cancel(); wg.Wait(); return conn.Close(ctx) })
	if _, err := conn.Exec(ctx, "LISTEN changed"); err != nil {
		return err
	}
	wg.Go(func() {
		for {
			notification, err := conn.WaitForNotification(listening)
			if err != nil {
				return
			}
			_, digits, _ := strings.Cut(notification.Payload, ",")
			if number, err := strconv.ParseInt(digits, 10, 64); err == nil {
				m.arrive(number, time.Now())
			}
		}
	})
	return nil
}

// connect follows all users, one socket each, spread over the replicas.
func (m *timing) connect(ctx context.Context, o options, replicas int) error {
	s := m.stack
	m.stop = append(m.stop, s.retire)
	if err := s.replicas(ctx, o, replicas); err != nil {
		return err
	}
	m.stop = append(m.stop, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, "SELECT reelay.unwatch('videos')")
		return err
	})
	if err := s.watch(ctx); err != nil {
		return err
	}
	var err error
	if m.crowd, err = newCrowd(m.ledger, addresses(s.gateways), numbered(users), 1); err != nil {
		return err
	}
	m.crowd.onEvent = func(e event, at time.Time) { m.arrive(e.number, at) }
	m.stop = append(m.stop, func(context.Context) error { m.crowd.leave(); return nil })
	return m.crowd.join(ctx)
}

// end undoes, in reverse, what was set up.
func (m *timing) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var errs []error
	for i := range m.stop {
		errs = append(errs, m.stop[len(m.stop)-1-i](ctx))
	}
	return errors.Join(errs...)
}

// notifyTrigger is the plain way: each change of a row calls pg_notify.
func notifyTrigger(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `
		CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('changed', NEW.id || ',' || NEW.progress); RETURN NULL; END$$;
		CREATE TRIGGER notify AFTER UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION notify()`)
	if err != nil {
		return fmt.Errorf("make a trigger that notifies: %w", err)
	}
	return nil
}
