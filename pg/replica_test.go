package pg_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
)

// replica is a Relay that runs.
type replica struct {
	t        testing.TB
	cancel   context.CancelFunc
	done     chan struct{}
	err      error // set before done is closed
	registry *prometheus.Registry
}

// stand starts a replica that stands for leader. It is stopped when the test ends.
func stand(t testing.TB, url string, b *bus, name string, change ...func(*pg.RelayConfig)) *replica {
	t.Helper()
	r := &replica{t: t, done: make(chan struct{}), registry: prometheus.NewRegistry()}
	config := pg.RelayConfig{
		URL: url, Retention: 24 * time.Hour, Metrics: pg.NewMetrics(r.registry),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("replica", name),
	}
	for _, f := range change {
		f(&config)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	relay := pg.NewRelay(config, port{b, name})
	go func() { // ends with the context; stop waits
		defer close(r.done)
		r.err = relay.Run(ctx)
	}()
	t.Cleanup(r.stop)
	return r
}

// stop ends the replica as its process's end would, and waits.
func (r *replica) stop() {
	r.t.Helper()
	r.cancel()
	select {
	case <-r.done:
		if r.err != nil {
			r.t.Errorf("Run: %v, want nil", r.err)
		}
	case <-time.After(patience):
		r.t.Fatal("Run goes on after its context has ended")
	}
}

// leads reports what the metric reelay_leader says.
func (r *replica) leads() bool {
	r.t.Helper()
	return r.value("reelay_leader") == 1
}

// value returns a counter or gauge, which has no labels.
func (r *replica) value(name string) float64 {
	r.t.Helper()
	value, found := r.look(name, "")
	if !found {
		r.t.Fatalf("there is no metric %s", name)
	}
	return value
}

// ended returns how many terms and tries a reason has ended.
func (r *replica) ended(reason string) float64 {
	r.t.Helper()
	n, _ := r.look("reelay_leader_attempts_ended_total", reason)
	return n
}

// look returns a counter or gauge that has one label, or none, if it has counted anything.
func (r *replica) look(name, label string) (value float64, found bool) {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			of := ""
			for _, pair := range metric.GetLabel() {
				of = pair.GetValue()
			}
			if family.GetName() == name && of == label {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue(), true // it is one of them
			}
		}
	}
	return 0, false
}

// awaitLeader waits until a replica has published as leader after an epoch, and returns who and its epoch.
func awaitLeader(t testing.TB, b *bus, after hub.Epoch) (string, hub.Epoch) {
	t.Helper()
	eventually(t, "there is a leader", func() bool { _, epoch := b.leader(); return epoch > after })
	return b.leader()
}

// leaderPID is the server process of the leader's session, as the lock that it holds says.
const leaderPID = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

var discard = slog.New(slog.DiscardHandler)

// readLog opens a Log that runs until the test ends.
func readLog(t testing.TB, url string) *pg.Log {
	t.Helper()
	l, _ := readLogWith(t, url)
	return l
}

func readLogWith(t testing.TB, url string) (*pg.Log, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	l, err := pg.OpenLog(context.Background(), url, pg.NewMetrics(registry))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }() // ends with the context
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Log.Run: %v", err)
		}
		l.Close()
	})
	return l, registry
}
