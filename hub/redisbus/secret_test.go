package redisbus_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// logTo makes a bus log everything to out.
func logTo(out *lockedBuffer) func(*redisbus.Config, *recorder) {
	return func(cfg *redisbus.Config, _ *recorder) {
		cfg.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// withKey makes a bus ask somebody else for the secret.
func withKey(ask func(context.Context) ([]byte, error)) func(*redisbus.Config, *recorder) {
	return func(cfg *redisbus.Config, _ *recorder) { cfg.Key = ask }
}

// Without the secret nothing is said to Redis, and the hub knows; with it, all goes well, and it is not asked for again.
func TestSecret_DownUntilItIsKnown(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	leader := lead(t, server.URL())
	var there atomic.Bool
	var asked atomic.Int32
	replica := start(t, server.URL(), withKey(func(context.Context) ([]byte, error) {
		asked.Add(1)
		if !there.Load() {
			return nil, errors.New("the database is away")
		}
		return []byte(sharedSecret), nil
	}))
	down := replica.await(t, "Down", 0, isDown)
	if reason := replica.all()[down].down.Error(); !strings.Contains(reason, "the database is away") {
		t.Errorf("the reason is %q, want it to say why there is no secret", reason)
	}
	within(t, patienceOrSo, "Subscribe without the secret", func() { replica.subscribe(t, "alice") })
	within(t, patienceOrSo, "Publish without the secret", func() {
		err := replica.Publish(t.Context(), hub.Batch{Log: "l", Epoch: 1})
		if err == nil || !strings.Contains(err.Error(), "secret") {
			t.Errorf("Publish returned %v, want an error that names the secret", err)
		}
	})
	eventually(t, "it is asked for again and again", func() bool { return asked.Load() >= 4 })
	if n := replica.metric(t, "reelay_bus_connections_total"); n > 0 {
		t.Errorf("%v connections were made without the secret", n)
	}
	there.Store(true)
	up := replica.await(t, "Up", down, isUp)
	replica.await(t, "event", up, isEventAt(leader.mustPublish(t, "alice")))
	if n := count(replica.all(), isDown); n != 1 {
		t.Errorf("Down was called %d times, want once", n)
	}
	times := asked.Load()
	if err := admin(t, server.URL()).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	afterOutage(t, replica, leader, up, "alice")
	if err := replica.Publish(t.Context(), hub.Batch{Log: "l", Epoch: 1}); err != nil {
		t.Errorf("Publish with the secret: %v", err)
	}
	if n := asked.Load() - times; n != 0 {
		t.Errorf("the secret was asked for %d times more after it was known", n)
	}
}

// Whoever keeps us waiting for the secret keeps nobody waiting for the news.
func TestSecret_SlowToCome(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	leader := lead(t, server.URL())
	come := make(chan struct{})
	prepare := withKey(func(ctx context.Context) ([]byte, error) {
		select {
		case <-come:
			return []byte(sharedSecret), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	replica, given := start(t, server.URL(), prepare), start(t, server.URL(), prepare)
	down := replica.await(t, "Down", 0, isDown)
	if took := replica.all()[down].at.Sub(replica.started); took > time.Second+slack {
		t.Errorf("Down came after %s, want about 1s at most", took)
	}
	within(t, 400*time.Millisecond, "the end of Run", given.stop)
	close(come)
	replica.subscribe(t, "alice")
	up := replica.await(t, "Up", down, isUp)
	replica.await(t, "event", up, isEventAt(leader.mustPublish(t, "alice")))
}

// A secret that could be guessed is none.
func TestSecret_TooShort(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	var out lockedBuffer
	replica := start(t, server.URL(), logTo(&out), withKey(func(context.Context) ([]byte, error) {
		return []byte("fifteen-letters"), nil
	}))
	down := replica.await(t, "Down", 0, isDown)
	if reason := replica.all()[down].down.Error(); !strings.Contains(reason, "shorter than 16 bytes") {
		t.Errorf("the reason is %q", reason)
	}
	replica.stop()
	if strings.Contains(out.String(), "fifteen") {
		t.Errorf("the log tells the secret:\n%s", out.String())
	}
}

// One replica has another secret than the others: it believes nothing, knows that it hears nothing, and says once what
// to look at. The others do not notice.
func TestSecret_DiffersOnOneReplica(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	var out lockedBuffer
	leader := lead(t, server.URL())
	well := start(t, server.URL())
	odd := start(t, server.URL(), logTo(&out), withKey(func(context.Context) ([]byte, error) {
		return []byte("what that one replica was given"), nil
	}))
	well.await(t, "Up", 0, isUp)
	well.subscribe(t, "alice")
	odd.await(t, "Down", 0, isDown)
	odd.subscribe(t, "alice")
	rejected := func() float64 {
		return odd.metric(t, "reelay_bus_messages_rejected_total", "reason=signature")
	}
	eventually(t, "messages are rejected on several connections", func() bool {
		leader.mustPublish(t, "alice")
		return rejected() > 50 && odd.metric(t, "reelay_bus_connections_total") >= 2
	})
	if calls := odd.all(); len(calls) != 1 {
		t.Errorf("want Down once and nothing else, got:\n%s", describe(calls))
	}
	if n := count(well.all(), isDown); n > 0 {
		t.Errorf("Down was called %d times on another replica", n)
	}
	// Nor is the odd one believed, should it lead.
	_ = odd.Publish(t.Context(), hub.Batch{Log: "k3f9a2bq", Epoch: 99, From: 1e6, Head: 1e6})
	well.await(t, "mark", len(well.all()), isMarkTo(leader.mustPublish(t, "alice")))
	if n := count(well.all(), isMarkTo(1e6)); n > 0 {
		t.Error("a mark of a replica with another secret was believed")
	}
	odd.stop()
	text := out.String()
	if n := strings.Count(text, "level=WARN msg=\"messages on Redis are not signed"); n != 1 || !strings.Contains(text, "REELAY_REDIS_SECRET") {
		t.Errorf("%d warnings, want one that names the setting:\n%.2000s", n, text)
	}
	if strings.Contains(text, "that one replica was given") || strings.Contains(text, sharedSecret) {
		t.Error("the log tells a secret")
	}
}
