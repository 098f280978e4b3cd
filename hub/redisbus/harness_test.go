package redisbus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
)

// enough is how long a test waits for what must happen. Nothing waits that long when all is well.
const enough = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is one call of a hub.Receiver. One of event, mark, up and down is set.
type call struct {
	at    time.Time
	log   string
	epoch hub.Epoch
	event *hub.Event
	mark  *hub.Mark
	up    bool
	down  error
}

// recorder is a hub.Receiver that remembers. It notices when two of its methods run at once.
type recorder struct {
	busy       atomic.Bool
	overlapped atomic.Bool
	block      func(*hub.Event) // called by Deliver, to play a hub that is slow; may be nil
	ready      func(*replica)   // called before Run; may be nil

	mu      sync.Mutex
	calls   []call
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) add(c call) {
	if r.busy.Swap(true) {
		r.overlapped.Store(true)
	}
	defer r.busy.Store(false)
	if c.event != nil && r.block != nil {
		r.block(c.event)
	}
	c.at = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Deliver(log string, epoch hub.Epoch, e *hub.Event) {
	r.add(call{log: log, epoch: epoch, event: e})
}
func (r *recorder) Advance(m hub.Mark) { r.add(call{mark: &m}) }
func (r *recorder) Up()                { r.add(call{up: true}) }
func (r *recorder) Down(reason error)  { r.add(call{down: reason}) }

// all returns the calls so far. They do not change any more, so that nothing needs to be copied.
func (r *recorder) all() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.calls)
}

// await waits until there is a call after the first `after` for which is is true, and returns its index.
func (r *recorder) await(t *testing.T, what string, after int, is func(call) bool) int {
	t.Helper()
	deadline := time.After(enough)
	for i := after; ; {
		r.mu.Lock()
		calls, changed := r.calls, r.changed
		r.mu.Unlock()
		for ; i < len(calls); i++ {
			if is(calls[i]) {
				return i
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s within %s; calls so far:\n%s", what, enough, describe(calls))
		}
	}
}

// describe shows the last calls, leaving out repeated marks.
func describe(calls []call) string {
	var b strings.Builder
	for _, c := range calls[max(0, len(calls)-40):] {
		switch {
		case c.event != nil:
			fmt.Fprintf(&b, "  event %d of %q, %d\n", c.event.Position, c.event.Owner, c.event.Sequence)
		case c.mark != nil:
			fmt.Fprintf(&b, "  mark %d to %d\n", c.mark.From, c.mark.Head)
		case c.up:
			b.WriteString("  up\n")
		default:
			fmt.Fprintf(&b, "  down: %v\n", c.down)
		}
	}
	return b.String()
}

func isUp(c call) bool   { return c.up }
func isDown(c call) bool { return c.down != nil }
func isEventAt(p hub.Position) func(call) bool {
	return func(c call) bool { return c.event != nil && c.event.Position == p }
}

func isMarkTo(p hub.Position) func(call) bool {
	return func(c call) bool { return c.mark != nil && c.mark.Head == p }
}

// vouchesFor is a mark that ends at p and vouches for something.
func vouchesFor(p hub.Position) func(call) bool {
	return func(c call) bool { return c.mark != nil && c.mark.Head == p && c.mark.From < p }
}

func count(calls []call, is func(call) bool) (n int) {
	for _, c := range calls {
		if is(c) {
			n++
		}
	}
	return n
}

// replica is a running bus and what it handed over.
type replica struct {
	*redisbus.Bus
	*recorder
	registry *prometheus.Registry
	started  time.Time
	stop     func()
}

// start runs a bus until the test ends. Prepare may change how, before it runs.
func start(t *testing.T, url string, prepare ...func(*redisbus.Config, *recorder)) *replica {
	t.Helper()
	r := &replica{recorder: newRecorder(), registry: prometheus.NewRegistry()}
	cfg := redisbus.Config{URL: url, Metrics: r.registry}
	for _, p := range prepare {
		p(&cfg, r.recorder)
	}
	bus, err := redisbus.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	r.Bus = bus
	if r.ready != nil {
		r.ready(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r.started = time.Now()
	go func() { ended <- bus.Run(ctx, r.recorder) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returned %v, want nil", err)
			}
		case <-time.After(enough):
			t.Error("Run did not end")
		}
		if r.overlapped.Load() {
			t.Error("two methods of the receiver were called at once")
		}
	})
	t.Cleanup(r.stop)
	return r
}

// subscribe subscribes owners, and fails the test if that is not at once.
func (r *replica) subscribe(t *testing.T, owners ...hub.Owner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	for _, owner := range owners {
		if err := r.Subscribe(ctx, owner); err != nil {
			t.Fatalf("Subscribe(%q): %v", owner, err)
		}
	}
}

// metric returns the value of a counter or gauge. Labels are given as name=value.
func (r *replica) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var have []string
			for _, label := range m.GetLabel() {
				have = append(have, label.GetName()+"="+label.GetValue())
			}
			if slices.Equal(have, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s%v", name, labels)
	return 0
}

// leader publishes as the relay does: a mark every tenth of a second, and what the test asks for. Like the relay it
// goes on after a failure with the next positions, and does not try again.
type leader struct {
	*replica

	mu     sync.Mutex
	head   hub.Position
	last   map[hub.Owner]hub.Sequence
	owners []hub.Owner   // of positions 1, 2, …
	worst  time.Duration // how long Publish took at most
	quiet  atomic.Bool   // no marks on its own
}

// publishLimit is what Publish may take at most: a second, and room for a busy machine.
const publishLimit = 1500 * time.Millisecond

// checkPublishTimes fails the test if any Publish so far took too long.
func (l *leader) checkPublishTimes(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.worst > publishLimit {
		t.Errorf("Publish took %s, want %s at most, whatever happens to Redis", l.worst, publishLimit)
	}
}

// lead starts a leader. It publishes until the test ends.
func lead(t *testing.T, url string) *leader {
	t.Helper()
	l := &leader{replica: start(t, url), last: make(map[hub.Owner]hub.Sequence)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !l.quiet.Load() {
					_, _ = l.publish()
				}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return l
}

// publish publishes one event for each owner, in one batch, and returns the position of the last.
func (l *leader) publish(owners ...hub.Owner) (hub.Position, error) {
	return l.publishWith(nil, owners...)
}

// publishWith is publish with a change to each event.
func (l *leader) publishWith(change func(*hub.Event), owners ...hub.Owner) (hub.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := hub.Batch{Log: "k3f9a2bq", Epoch: 7, From: l.head}
	for _, owner := range owners {
		l.head++
		l.last[owner]++
		l.owners = append(l.owners, owner)
		event := &hub.Event{
			Position: l.head, Owner: owner, Sequence: l.last[owner], OutboxID: int64(l.head) + 1000,
			Type: "video.updated", Subject: fmt.Sprintf("vid_%d", l.head),
			Data: json.RawMessage(`{"processing_status":"ready","previous":{"processing_status":"processing"}}`),
			Time: time.Date(2026, 11, 22, 10, 0, 0, int(l.head), time.UTC),
		}
		if change != nil {
			change(event)
		}
		batch.Events = append(batch.Events, event)
	}
	batch.Head = l.head
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	begin := time.Now()
	err := l.Publish(ctx, batch)
	l.worst = max(l.worst, time.Since(begin))
	return l.head, err
}

// mustPublish publishes until Redis takes it: there may just have been an outage, and on a busy machine a second is
// little. What was published in vain leaves a gap in the positions.
func (l *leader) mustPublish(t *testing.T, owners ...hub.Owner) hub.Position {
	t.Helper()
	var position hub.Position
	eventually(t, "Publish works", func() bool {
		var err error
		position, err = l.publish(owners...)
		return err == nil
	})
	return position
}

// checkMarks fails the test if a mark vouches for an event of a subscribed owner that was not delivered before it.
// Calls begin when all the owners are subscribed.
func (l *leader) checkMarks(t *testing.T, calls []call, subscribed ...hub.Owner) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	delivered := make(map[hub.Position]bool)
	for _, c := range calls {
		if c.event != nil {
			delivered[c.event.Position] = true
		}
		if c.mark == nil {
			continue
		}
		for p := c.mark.From + 1; p <= c.mark.Head; p++ {
			if owner := l.owners[p-1]; slices.Contains(subscribed, owner) && !delivered[p] {
				t.Errorf("the mark %d to %d came before the event at %d of %q", c.mark.From, c.mark.Head, p, owner)
			}
		}
	}
}

// admin returns a client for what only an administrator does.
func admin(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// within runs do and fails the test if it takes longer than limit.
func within(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	begin := time.Now()
	do()
	if took := time.Since(begin); took > limit {
		t.Errorf("%s took %s, want at most %s", what, took, limit)
	}
}

// eventually polls a condition that nothing announces.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(enough)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", enough, what)
		}
	}
}
