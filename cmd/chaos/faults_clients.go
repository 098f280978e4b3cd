package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// audience is how many clients one of which never reads.
	audience = 100
	// heavySockets is how many of them are of the user whose events are large: no socket's buffer hides them.
	heavySockets = 10
	heavyBytes   = 5 << 10
)

// herdReturns breaks the connections of many clients, sends each an event, and lets all come back at once. By then the
// replicas have forgotten them, so each has to be read from the log.
func herdReturns(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	held := metricsOf(ctx, e.replicas)
	herd, err := e.gather(ctx, "herd", e.herd, func(n int) *replica { return e.replicas[n%len(e.replicas)] })
	if err != nil {
		return err
	}
	defer herd.disperse()
	back := herd.leave()
	if err := e.forgotten(ctx, held); err != nil {
		return err
	}
	if err := e.sendTo(ctx, herd); err != nil {
		return err
	}
	queries := counted(ctx, e.replicas, "reelay_log_queries_total")
	from := time.Now()
	back()
	took, err := herd.wholeAgain(ctx, from)
	e.recoveries = append(e.recoveries, took)
	if err != nil {
		return err
	}
	used := queries()
	e.notef("%d queries of the log for %d clients", used, e.herd)
	if used > e.herd {
		e.exceeds("%d queries of the log for %d clients, more than one for each", used, e.herd)
	}
	herd.judge(e)
	return nil
}

// forgotten waits until the replicas have no more clients, and know no more owners, than they held before a herd came. A
// replica that does not answer has forgotten nobody.
func (c *campaign) forgotten(ctx context.Context, held samples) error {
	return until(ctx, time.Minute, "the herd is forgotten", func() bool {
		var connections, feeds float64
		for _, r := range c.replicas {
			m, err := r.metrics(ctx)
			if err != nil {
				return false
			}
			connections += m.sum("reelay_connections")
			feeds += m.sum("reelay_feeds")
		}
		sentries := float64(len(c.replicas)) // they come and go
		return connections <= held.sum("reelay_connections")+sentries && feeds <= held.sum("reelay_feeds")+sentries
	})
}

// slowClient sends a burst to a hundred clients twice: to such as read, and to some one of whom never does. The others
// should not notice, and that one should be cut off, and find all its events when it comes back.
func slowClient(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	heavy := min(1500, e.burst/2)
	light := (e.burst - heavy) / ((audience - heavySockets) / 5)
	readers, err := e.gatherAs(ctx, audience-heavySockets, func(n int) string { return fmt.Sprintf("light-%d", n/5) },
		func(n int) *replica { return e.replicas[n%len(e.replicas)] })
	if err != nil {
		return err
	}
	defer readers.disperse()
	fans, err := e.gatherAs(ctx, heavySockets-1, func(int) string { return "heavy" }, func(n int) *replica { return e.replicas[n%len(e.replicas)] })
	if err != nil {
		return err
	}
	defer fans.disperse()
	burst := func() (p99 time.Duration, err error) {
		from := time.Now()
		if err := e.sendMany(ctx, fans, heavy, heavyBytes); err != nil {
			return 0, err
		}
		if err := e.sendMany(ctx, readers, light, 10); err != nil {
			return 0, err
		}
		for _, crowd := range []*crowd{fans, readers} {
			if _, err := crowd.wholeAgain(ctx, from); err != nil {
				return 0, err
			}
		}
		var all []time.Duration
		for _, w := range e.probes {
			all = append(all, e.prober.latencies(w, from)...)
		}
		return quantile(all, 0.99), nil
	}
	before, err := burst()
	if err != nil {
		return err
	}

	host := e.replicas[e.random.IntN(len(e.replicas))]
	stalled, cursor, err := e.stall(ctx, host, "heavy")
	if err != nil {
		return err
	}
	defer stalled.Close()
	connections, err := host.fewest(ctx, "reelay_connections")
	if err != nil {
		return err
	}
	from := now()
	after, err := burst()
	if err != nil {
		return err
	}
	if after > 2*before+50*time.Millisecond { // less than that is this machine's noise
		e.exceeds("p99 of others went from %s to %s", seconds(before), seconds(after))
	}
	e.notef("p99 of others %s, with the stalled one %s", seconds(before), seconds(after))
	err = until(ctx, recoverLimit, "the client that never reads is cut off", func() bool {
		m, err := host.metrics(ctx)
		return err == nil && m.sum("reelay_connections") < connections
	})
	e.recoveries = append(e.recoveries, time.Since(from.happened))
	if err != nil {
		return err
	}
	e.unhindered(from)
	return e.comesBack(ctx, host, cursor, heavy, fans, readers)
}

// comesBack connects the stalled client again, with its cursor: it has missed the whole burst.
func (e *episode) comesBack(ctx context.Context, host *replica, cursor string, missed int, others ...*crowd) error {
	_, sequence, ok := parseCursor(cursor)
	if !ok {
		return fmt.Errorf("the stalled client has the cursor %q", cursor)
	}
	missing := &member{user: "heavy", cursor: cursor, sequence: sequence, owed: sequence + int64(missed)}
	again, err := e.assemble(ctx, []*member{missing}, func(int) *replica { return host })
	if err != nil {
		return err
	}
	defer again.disperse()
	if _, err := again.wholeAgain(ctx, time.Now()); err != nil {
		return err
	}
	again.judge(e)
	for _, crowd := range others {
		crowd.judge(e)
	}
	return nil
}

// stall connects a client that reads no more than its first frame. It returns the cursor in that.
func (e *episode) stall(ctx context.Context, host *replica, user string) (*websocket.Conn, string, error) {
	socket, err := dialSession(ctx, host.public, e.issuer.mint(user), url.Values{"snapshot": {"0"}})
	if err != nil {
		return nil, "", fmt.Errorf("connect a client that never reads: %w", err)
	}
	if tcp, ok := socket.NetConn().(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = tcp.SetReadBuffer(4 << 10) // else it takes a little longer
	}
	frame, err := readFrame(socket)
	if err != nil {
		_ = socket.Close()
		return nil, "", fmt.Errorf("connect a client that never reads: %w", err)
	}
	return socket, frame.Cursor, nil
}

// fewest returns the lowest of some readings of a gauge: the sentries' sessions come and go.
func (r *replica) fewest(ctx context.Context, gauge string) (float64, error) {
	var lowest float64
	for n := range 20 {
		m, err := r.metrics(ctx)
		if err != nil {
			return 0, err
		}
		if value := m.sum(gauge); n == 0 || value < lowest {
			lowest = value
		}
		pause(ctx, knockEvery/10)
	}
	return lowest, nil
}
