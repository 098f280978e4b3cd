package redisbus_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// slack is what a busy machine may add to a stated time.
const slack = time.Second

// lastMark returns when the last mark before call i was handed over.
func lastMark(calls []call, i int) time.Time {
	for ; i >= 0; i-- {
		if calls[i].mark != nil {
			return calls[i].at
		}
	}
	return time.Time{}
}

// checkSilence fails the test unless the Down at index i came Silence after the last mark.
func checkSilence(t *testing.T, calls []call, i int) {
	t.Helper()
	took := calls[i].at.Sub(lastMark(calls, i))
	if took < redisbus.Silence-slack || took > redisbus.Silence+slack {
		t.Errorf("Down came %s after the last mark (%v), want %s", took, calls[i].down, redisbus.Silence)
	}
}

// afterOutage checks that the replica is whole again: one Down, then Up, then events of all its owners.
func afterOutage(t *testing.T, r *replica, l *leader, from int, mine ...hub.Owner) {
	t.Helper()
	down := r.await(t, "Down", from, isDown)
	up := r.await(t, "Up", down, isUp)
	if n := count(r.all()[from:up], isDown); n != 1 {
		t.Errorf("Down was called %d times in one outage, want once", n)
	}
	last := l.mustPublish(t, mine...)
	r.await(t, "mark", up, isMarkTo(last))
	for i := range mine {
		r.await(t, "event after the outage", up, isEventAt(last-hub.Position(i)))
	}
	l.checkMarks(t, r.all()[up:], mine...)
}

func TestBus_RedisKilledAndRestartedEmpty(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	mine := owners(1200) // more than one SUBSCRIBE names
	replica.subscribe(t, mine...)
	for range 3 {
		from := len(replica.all())
		server.Kill()
		killed := time.Now()
		down := replica.await(t, "Down", from, isDown)
		if took := replica.all()[down].at.Sub(killed); took > slack {
			t.Errorf("Down came %s after the kill, want at once", took)
		}
		if _, err := leader.publish("user-0"); err == nil {
			t.Error("Publish worked without a Redis")
		}
		leader.checkPublishTimes(t)
		within(t, patienceOrSo, "Subscribe without a Redis", func() { replica.subscribe(t, "late") })
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		restarted := time.Now()
		up := replica.await(t, "Up", down, isUp)
		if took := replica.all()[up].at.Sub(restarted); took > 2*time.Second+slack {
			t.Errorf("Up came %s after the restart, want 2s at most", took)
		}
		afterOutage(t, replica, leader, from, append(mine, "late")...)
	}
}

func TestBus_RedisFrozen(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	leader.mustPublish(t, "alice")
	from := len(replica.all())
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	for time.Since(paused) < 4500*time.Millisecond {
		if _, err := leader.publish("alice"); err == nil {
			t.Error("Publish to a frozen Redis worked")
		}
	}
	leader.checkPublishTimes(t)
	down := replica.await(t, "Down", from, isDown)
	checkSilence(t, replica.all(), down)
	within(t, patienceOrSo, "Subscribe while Redis is frozen", func() { replica.subscribe(t, "carol") })
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	up := replica.await(t, "Up", down, isUp)
	if took := replica.all()[up].at.Sub(thawed); took > 2*time.Second+slack {
		t.Errorf("Up came %s after the thaw, want about 2s at most", took)
	}
	afterOutage(t, replica, leader, from, "alice", "bob", "carol")
}

// The network swallows everything and no socket is closed.
func TestBus_ReplicaInABlackHole(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	hole := newProxy(t, server.Addr())
	replica, leader := start(t, hole.url()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	from := len(replica.all())
	hole.hold()
	// The command that is lost with the connection: Subscribe waits no longer than the connection lasts.
	within(t, redisbus.Silence+slack, "Subscribe into a black hole", func() { replica.subscribe(t, "bob") })
	down := replica.await(t, "Down", from, isDown)
	checkSilence(t, replica.all(), down)
	hole.release()
	afterOutage(t, replica, leader, from, "alice", "bob")
}

// The same through TLS, whose polite goodbye nobody would hear.
func TestBus_OverTLS(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	link := newTLSProxy(t, server.Addr())
	secure := strings.Replace(link.url(), "redis://", "rediss://", 1)
	replica, leader := start(t, secure+"?skip_verify=true"), lead(t, secure+"?skip_verify=true")
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	eventually(t, "a certificate that nobody trusts is the reason", func() bool {
		distrustful := start(t, secure)
		defer distrustful.stop()
		at := distrustful.await(t, "Down", 0, isDown)
		return strings.Contains(distrustful.all()[at].down.Error(), "certificate")
	})
	from := len(replica.all())
	link.hold()
	down := replica.await(t, "Down", from, isDown)
	checkSilence(t, replica.all(), down)
	link.release()
	afterOutage(t, replica, leader, from, "alice")
	link.hold()
	within(t, slack, "the end of Run", replica.stop)
}

// Redis and the connection are well, but the leader is gone or cannot reach Redis.
func TestBus_LeaderFallsSilent(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	leader.quiet.Store(true)
	from := len(replica.all())
	down := replica.await(t, "Down", from, isDown)
	checkSilence(t, replica.all(), down)
	if reason := replica.all()[down].down.Error(); !strings.Contains(reason, "no mark") {
		t.Errorf("the reason is %q", reason)
	}
	// Connected and confirmed, but nothing is heard: still down, and Subscribe is quick.
	eventually(t, "another connection", func() bool { return replica.metric(t, "reelay_bus_connections_total") >= 2 })
	within(t, patienceOrSo, "Subscribe without marks", func() { replica.subscribe(t, "bob") })
	if calls := replica.all()[down:]; len(calls) != 1 {
		t.Errorf("without marks there was more than Down:\n%s", describe(calls))
	}
	leader.quiet.Store(false)
	afterOutage(t, replica, leader, from, "alice", "bob")
}

func TestBus_ConnectionKilled(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	client := admin(t, server.URL())
	for range 4 {
		from := len(replica.all())
		if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		afterOutage(t, replica, leader, from, "alice", "bob")
	}
	// The leader's connection too. It is found dead before anything is written, so that publication does not fail.
	leader.quiet.Store(true)
	eventually(t, "Publish works on a connection that was closed", func() bool {
		leader.mustPublish(t, "alice")
		if err := client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		_, err := leader.publish("alice")
		return err == nil
	})
}

// Redis cuts off a replica that does not keep up.
func TestBus_OutputBufferOverflows(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	client := admin(t, server.URL())
	if err := client.ConfigSet(t.Context(), "client-output-buffer-limit", "pubsub 256kb 0 0").Err(); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan struct{})
	release := sync.OnceFunc(func() { close(blocked) })
	leader := lead(t, server.URL())
	// Over the unix socket, since the kernel buffers megabytes of a TCP connection.
	replica := start(t, server.SocketURL(), func(_ *redisbus.Config, r *recorder) {
		r.block = func(*hub.Event) { <-blocked }
	})
	t.Cleanup(release) // runs before the replica is stopped, which waits for Deliver
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	from := len(replica.all())
	listeners := func() int {
		list, err := client.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(list, "id=")
	}
	if n := listeners(); n != 2 {
		t.Fatalf("%d listen at Redis, want the replica and the leader's own", n)
	}
	big := []byte(`{"x":"` + strings.Repeat("x", 64<<10) + `"}`)
	eventually(t, "the replica is cut off", func() bool {
		_, _ = leader.publishWith(func(e *hub.Event) { e.Data = big }, "alice")
		return listeners() < 2
	})
	release()
	afterOutage(t, replica, leader, from, "alice")
}
