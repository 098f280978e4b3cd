package pg_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

const (
	// toldWithin is how long after its Postgres has become a black hole a replica's sessions may be left untold.
	toldWithin = 8 * time.Second
	// wholeWithin is how long after it is none any more they may be told so, and have everything.
	wholeWithin = 8 * time.Second
)

// A network that swallows everything is worse than one that is down: nothing ever fails. Whatever the bus does at that
// moment, sessions are told, /readyz says the same, and afterwards everybody gets everything once.
func TestLog_BecomesABlackHole(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for n := range 12 {
		random := rand.New(rand.NewPCG(uint64(n), 7)) // the same episodes each time
		e := &hole{
			unplug: n%2 == 0, replace: n%3 > 0, holes: n%4 < 2, bus: []string{"up", "down", "down and up"}[n/2%3],
			warm: time.Duration(random.IntN(1500)) * time.Millisecond, lasts: time.Duration(random.IntN(2000)) * time.Millisecond,
			late: time.Duration(random.IntN(4000)) * time.Millisecond,
		}
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			e.play(t, connect(t, server.New(t)))
		})
	}
}

// hole is one episode.
type hole struct {
	unplug  bool          // new connections are not accepted either
	replace bool          // old connections never come back
	holes   bool          // the bus loses events at that moment
	bus     string        // what the bus does
	warm    time.Duration // before
	lasts   time.Duration // after sessions have been told
	late    time.Duration // how much later than Postgres the bus goes down
}

func (e *hole) String() string {
	return fmt.Sprintf("unplug %v, replace %v, holes %v, bus %s, %v, %v, %v", e.unplug, e.replace, e.holes, e.bus, e.warm, e.lasts, e.late)
}

func (e *hole) play(t *testing.T, s *session) {
	t.Helper()
	s.exec(watched)
	s.exec("INSERT INTO videos (id, user_id) SELECT 'v' || n, 'user-' || n FROM generate_series(0, 9) n")
	proxy, carrier := pgtest.NewProxy(t, s.url), &carrier{Local: hub.NewLocal()}
	listeners := hub.New(carrier, readLog(t, proxy.URL()), slog.New(slog.DiscardHandler), hub.NewMetrics(nil))
	news := make(chan bool, 100)
	listeners.OnAvailability(func(available bool) { news <- available })
	inBackground(t, listeners.Run)
	inBackground(t, pg.NewRelay(pg.RelayConfig{
		URL: s.url, Retention: 24 * time.Hour, Metrics: pg.NewMetrics(nil), Log: slog.New(slog.DiscardHandler),
	}, carrier).Run)
	// By then the log has its name: a database that was cloned gets a new one from its first leader.
	eventually(t, "there is a leader", func() bool { return one[bool](s, "SELECT epoch > 0 FROM reelay.state") })
	eventually(t, "the log has answered", func() bool { return listeners.Ready(t.Context()) == nil })
	var followers []*follower
	for n := range 10 {
		followers = append(followers, follow(t, listeners, hub.Owner(fmt.Sprintf("user-%d", n))))
	}
	writer := s.another()
	inBackground(t, func(ctx context.Context) error {
		for n := 0; ctx.Err() == nil; n++ {
			writer.exec("UPDATE videos SET processing_status = $1 WHERE id = $2", fmt.Sprint("s", n), fmt.Sprint("v", n%10))
			wait(ctx, 20*time.Millisecond)
		}
		return nil
	})

	t.Cleanup(proxy.CutClients) // first of all, so that nobody waits for a server that says goodbye
	wait(t.Context(), e.warm)
	if e.unplug {
		proxy.Unplug(t)
	} else {
		proxy.Freeze()
	}
	began := time.Now()
	carrier.lose(e.holes)
	busEnded := make(chan struct{})
	go func() { // waited for below
		defer close(busEnded)
		if e.bus != "up" {
			wait(t.Context(), e.late)
			carrier.down()
		}
		if e.bus == "down and up" {
			wait(t.Context(), 100*time.Millisecond)
			carrier.up()
		}
		carrier.lose(false)
	}()
	hears(t, listeners, news, false, began.Add(toldWithin))
	t.Logf("told after %v", time.Since(began))
	wait(t.Context(), e.lasts)
	<-busEnded
	if len(news) > 0 || listeners.Ready(t.Context()) == nil {
		t.Fatalf("sessions were told that the log is available, in a black hole; Ready says %v", listeners.Ready(t.Context()))
	}

	if e.replace {
		proxy.Replace()
	} else {
		proxy.Thaw()
	}
	healed := time.Now()
	hears(t, listeners, news, true, healed.Add(wholeWithin))
	t.Logf("told that all is well after %v", time.Since(healed))
	if e.bus == "down" {
		carrier.up()
	}
	at := one[int](s, "SELECT last_position FROM reelay.state")
	for _, f := range followers {
		f.complete(s, at, healed.Add(wholeWithin))
	}
	t.Logf("whole after %v", time.Since(healed))
}

// hears waits until sessions are told that the log is available, or not, and checks that Ready says the same.
func hears(t *testing.T, listeners *hub.Hub, news <-chan bool, want bool, by time.Time) {
	t.Helper()
	select {
	case got := <-news:
		if got != want || (listeners.Ready(t.Context()) == nil) != want {
			t.Fatalf("sessions were told that the log is available: %v, want %v; Ready says %v", got, want, listeners.Ready(t.Context()))
		}
	case <-time.After(time.Until(by)):
		t.Fatalf("sessions were not told that the log is available: %v; Ready says %v", want, listeners.Ready(t.Context()))
	}
}

// carrier is the bus of one process, which can lose events, and go down and up.
type carrier struct {
	*hub.Local

	mu       sync.Mutex
	receiver hub.Receiver // guarded by mu, as all below
	loses    bool
	isDown   bool
}

func (c *carrier) Run(ctx context.Context, receiver hub.Receiver) error {
	c.mu.Lock()
	c.receiver = receiver
	c.mu.Unlock()
	return c.Local.Run(ctx, receiver)
}

// Publish loses the first event of each batch where it is to make holes, and all of it while the bus is down.
func (c *carrier) Publish(ctx context.Context, batch hub.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isDown {
		return nil
	}
	if c.loses && len(batch.Events) > 0 {
		batch.Events = batch.Events[1:]
	}
	return c.Local.Publish(ctx, batch)
}

func (c *carrier) lose(loses bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loses = loses
}

func (c *carrier) down() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isDown = true
	c.receiver.Down(context.DeadlineExceeded)
}

func (c *carrier) up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isDown = false
	c.receiver.Up()
}

// follower is a session that keeps what it gets.
type follower struct {
	t     *testing.T
	owner hub.Owner
	first hub.Sequence // it was placed after this one

	mu  sync.Mutex
	got []hub.Sequence // guarded by mu
}

func follow(t *testing.T, listeners *hub.Hub, owner hub.Owner) *follower {
	t.Helper()
	f, awake := &follower{t: t, owner: owner}, make(chan struct{}, 1)
	attached, err := listeners.Attach(t.Context(), owner, func() {
		select {
		case awake <- struct{}{}:
		default:
		}
	}, hub.Options{})
	if err != nil {
		t.Fatalf("attach %s: %v", owner, err)
	}
	t.Cleanup(attached.Close)
	cursor, err := attached.Live(t.Context())
	if err != nil {
		t.Fatalf("place %s: %v", owner, err)
	}
	f.first = cursor.Sequence
	inBackground(t, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-awake:
			}
			for event, _, err := attached.Next(); event != nil || err != nil; event, _, err = attached.Next() {
				if err != nil {
					return err
				}
				f.mu.Lock()
				f.got = append(f.got, event.Sequence)
				f.mu.Unlock()
			}
		}
	})
	return f
}

// complete waits until the follower has what the log has of its owner up to a position, and checks that it came once and
// in order.
func (f *follower) complete(s *session, position int, by time.Time) {
	f.t.Helper()
	last := one[hub.Sequence](s, "SELECT coalesce(max(sequence), 0) FROM reelay.log WHERE owner = $1 AND position <= $2", f.owner, position)
	var got []hub.Sequence
	eventually(f.t, fmt.Sprintf("%s has event %d", f.owner, last), func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		got = slices.Clone(f.got)
		return last <= f.first || len(got) > 0 && got[len(got)-1] >= last
	})
	if late := time.Since(by); late > 0 {
		f.t.Errorf("%s has event %d %v too late", f.owner, last, late)
	}
	for i, sequence := range got {
		if sequence != f.first+hub.Sequence(i)+1 {
			f.t.Fatalf("%s was placed after %d and got %v", f.owner, f.first, got)
		}
	}
}

// inBackground runs something until the test ends, and checks what it returns.
func inBackground(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }() // waited for below
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("in the background: %v", err)
		}
	})
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
