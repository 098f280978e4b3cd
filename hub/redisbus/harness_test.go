package redisbus_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
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

// secret is what all replicas of a test share, unless it says otherwise.
func secret(context.Context) ([]byte, error) { return []byte(sharedSecret), nil }

const sharedSecret = "what all replicas of a test share"

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
	cfg := redisbus.Config{URL: url, Key: secret, Metrics: r.registry}
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

// admin returns a client for what only an administrator does.
func admin(t testing.TB, url string) *redis.Client {
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

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func owners(n int) []hub.Owner {
	list := make([]hub.Owner, n)
	for i := range list {
		list[i] = hub.Owner(fmt.Sprintf("user-%d", i))
	}
	return list
}
