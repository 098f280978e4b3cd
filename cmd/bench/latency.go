package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"github.com/reelay/reelay/api/client"
)

const users = 1000

// latency measures the time from before COMMIT to the client, at several rates of single-row updates.
func latency(ctx context.Context, o options) error {
	table := tabwriter.NewWriter(o.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "rate/s\tclient\tcommits/s\tp50 ms\tp99 ms\tmax ms\tlost\ttwice\t")
	for _, gateways := range []int{0, 1, 3} {
		if err := latencyOf(ctx, o, table, gateways); err != nil {
			return err
		}
	}
	return table.Flush()
}

func latencyOf(ctx context.Context, o options, table *tabwriter.Writer, gateways int) error {
	s, err := start(ctx, o, gateways)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop(ctx) }()
	listening, stop := context.WithCancel(ctx)
	defer stop()
	m := &measured{}
	name := "bare LISTEN"
	if gateways == 0 {
		err = m.listen(listening, s)
	} else {
		name = fmt.Sprintf("Reelay on %d", gateways)
		err = m.connect(listening, s)
	}
	if err != nil {
		return err
	}
	defer m.wg.Wait()
	defer stop()
	for _, perSecond := range []int{200, 1000, 0} {
		if err := m.round(ctx, s, o, perSecond); err != nil {
			return err
		}
		label := strconv.Itoa(perSecond)
		if perSecond == 0 {
			label = "all it can"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.1f\t%d\t%d\t\n", label, name, float64(m.sent)/o.seconds.Seconds(),
			quantile(m.took, 0.5), quantile(m.took, 0.99), quantile(m.took, 1), m.sent-len(m.took), m.twice)
	}
	return nil
}

// measured is what the clients have seen of a round. Each commit writes a number of its own into its row.
type measured struct {
	wg sync.WaitGroup

	mu    sync.Mutex
	begun map[int]time.Time // by number; those not seen yet
	seen  map[int]bool
	took  []float64 // ms
	base  int       // the last number of the round before: none is used twice, since writing what a row holds is no change
	sent  int
	twice int
}

func (m *measured) arrived(number int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	begun, waiting := m.begun[number]
	switch {
	case waiting:
		delete(m.begun, number)
		m.seen[number] = true
		m.took = append(m.took, float64(at.Sub(begun))/float64(time.Millisecond))
	case m.seen[number]:
		m.twice++
	}
}

func (m *measured) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.begun)
}

// round commits at a rate (0: as fast as 32 connections can) and waits for what is under way.
func (m *measured) round(ctx context.Context, s *stack, o options, perSecond int) error {
	m.mu.Lock()
	m.begun, m.seen, m.took = make(map[int]time.Time), make(map[int]bool), nil
	m.base, m.sent, m.twice = m.base+m.sent, 0, 0
	m.mu.Unlock()
	limit := rate.NewLimiter(rate.Inf, 0)
	if perSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	writing, cancel := context.WithTimeout(ctx, o.seconds)
	defer cancel()
	var writers sync.WaitGroup
	errs := make(chan error, 32)
	for range 32 {
		writers.Go(func() { errs <- m.write(ctx, writing, s, limit) })
	}
	writers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(20 * time.Second); m.waiting() > 0 && time.Now().Before(deadline); {
		pause(ctx, 10*time.Millisecond)
	}
	return ctx.Err()
}

func (m *measured) write(ctx, writing context.Context, s *stack, limit *rate.Limiter) error {
	for limit.Wait(writing) == nil && writing.Err() == nil {
		m.mu.Lock()
		m.sent++
		number := m.base + m.sent
		m.begun[number] = time.Now()
		m.mu.Unlock()
		_, err := s.db.ExecContext(ctx, "UPDATE videos SET progress = $1 WHERE id = $2", number, "v"+strconv.Itoa(rand.IntN(10*users)))
		if err != nil {
			return err
		}
	}
	return nil
}

// listen hears by a NOTIFY of the row's trigger: the least that there can be between Postgres and a client.
func (m *measured) listen(ctx context.Context, s *stack) error {
	_, err := s.db.ExecContext(ctx, `
		CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('changed', NEW.id || ',' || NEW.progress); RETURN NULL; END$$;
		CREATE TRIGGER notify AFTER UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION notify()`)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.url())
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "LISTEN changed"); err != nil {
		return err
	}
	m.wg.Go(func() {
		defer conn.Close(context.WithoutCancel(ctx))
		for {
			notification, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			_, digits, _ := strings.Cut(notification.Payload, ",")
			number, _ := strconv.Atoi(digits)
			m.arrived(number, time.Now())
		}
	})
	return nil
}

// connect follows all users, one socket each, spread over the gateways.
func (m *measured) connect(ctx context.Context, s *stack) error {
	if _, err := s.db.ExecContext(ctx, "SELECT reelay.watch('videos', columns => '{progress}')"); err != nil {
		return err
	}
	var ready sync.WaitGroup
	failed := make(chan error, users)
	for n := range users {
		user := fmt.Sprintf("user-%d", n)
		none := false
		c, err := client.New(client.Config{
			URL: "http://" + s.gateways[n%len(s.gateways)].public, Snapshot: &none,
			Token: func(context.Context) (string, error) { return token(user) },
		})
		if err != nil {
			return err
		}
		ready.Add(1)
		once := sync.OnceFunc(ready.Done)
		m.wg.Go(func() {
			err := c.Run(ctx, func(_ context.Context, f client.Frame) error {
				at := time.Now()
				if f.Type == client.TypeReady {
					once()
				}
				var data struct {
					Progress int `json:"progress"`
				}
				if f.Type == "video.updated" && f.Decode(&data) == nil {
					m.arrived(data.Progress, at)
				}
				return nil
			})
			once()
			failed <- err
		})
	}
	ready.Wait()
	select {
	case err := <-failed:
		return errors.Join(errors.New("a client cannot connect"), err)
	default:
		return nil
	}
}
