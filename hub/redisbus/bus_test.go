package redisbus_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// One stream of everything: what is published in an order arrives in that order, and marks after what they vouch for.
func TestBus_DeliversInOrder(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.SocketURL())
	mine := []hub.Owner{"alice", "u1\r\nPUBLISH x", "*", "Ünï 😀 \x00\xff", hub.Owner(strings.Repeat("long", 200))}
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, mine...)
	everybody := append([]hub.Owner{"bob", "alicf"}, mine...)
	var last hub.Position
	for round := range 40 {
		var batch []hub.Owner
		for i := range 1 + round*round*3/2 { // up to 2,282: several pipelines
			batch = append(batch, everybody[(i*7+round)%len(everybody)])
		}
		last = leader.mustPublish(t, batch...)
	}
	end := replica.await(t, "last mark", up, isMarkTo(last))
	calls := replica.all()[:end+1]
	leader.checkMarks(t, calls[up:], mine...)
	var before hub.Position
	got := make(map[hub.Owner]hub.Sequence)
	for _, c := range calls {
		if c.event == nil {
			continue
		}
		e := c.event
		if e.Position <= before || e.Sequence <= got[e.Owner] || c.log != "k3f9a2bq" || c.epoch != 7 {
			t.Fatalf("after position %d and sequence %d of %q came %+v", before, got[e.Owner], e.Owner, c)
		}
		before, got[e.Owner] = e.Position, e.Sequence
	}
	for _, owner := range everybody {
		want := hub.Sequence(0)
		if slices.Contains(mine, owner) {
			want = leader.last[owner]
		}
		if got[owner] != want { // that none before it is missing is what checkMarks says
			t.Errorf("%q: the last event is %d, want %d", owner, got[owner], want)
		}
	}
	if n := count(calls, isDown); n > 1 {
		t.Errorf("Down was called %d times on a healthy Redis", n)
	}
}

// The data arrives byte for byte, and so does everything else.
func TestBus_CarriesEventsExactly(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	for _, data := range []string{
		"", `{}`, "{\n \"a\" : 1.10e+2 }", `{"t":"\n\ndata: x\u2028"}`, "{\"t\":\"\u2028 😀\"}",
		`{"big":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		var sent *hub.Event
		var position hub.Position
		eventually(t, "Publish works", func() bool {
			var err error
			position, err = leader.publishWith(func(e *hub.Event) {
				e.Data = []byte(data)
				if data == "" {
					e.Data = nil
				}
				e.Time = e.Time.In(time.FixedZone("", 3600))
				sent = e
			}, "alice")
			return err == nil
		})
		at := replica.await(t, "event", 0, isEventAt(position))
		got := replica.all()[at].event
		if string(got.Data) != data || (got.Data == nil) != (data == "") || !got.Time.Equal(sent.Time) ||
			got.Time.Location() != time.UTC || got.Type != sent.Type || got.Subject != sent.Subject ||
			got.OutboxID != sent.OutboxID || got.Sequence != sent.Sequence || got.Owner != "alice" {
			t.Errorf("%+.100v arrived, %+.100v was sent", got, sent)
		}
	}
}

// Two deployments on one Redis do not hear each other.
func TestBus_PrefixSeparates(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	leader := lead(t, server.URL())
	replica := start(t, server.URL(), func(cfg *redisbus.Config, _ *recorder) { cfg.Prefix = "other" })
	replica.subscribe(t, "alice")
	leader.await(t, "Up", 0, isUp)
	leader.mustPublish(t, "alice")
	replica.await(t, "Down", 0, isDown)
	eventually(t, "a mark of its own", func() bool {
		_ = replica.Publish(t.Context(), hub.Batch{Log: "own", Epoch: 1, From: 99, Head: 99})
		return count(replica.all(), isMarkTo(99)) > 0
	})
	foreign := func(c call) bool { return c.event != nil || c.mark != nil && c.mark.Head != 99 }
	if calls := replica.all(); count(calls, foreign) > 0 {
		t.Errorf("heard another deployment:\n%s", describe(calls))
	}
}

// The hub must know within a second of the start that it has to read the log.
func TestBus_DownSoonAfterTheStart(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	hole := newProxy(t, server.Addr())
	hole.hold()
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, url := range map[string]string{
		"nobody listens":    "redis://" + closed.Addr().String(),
		"no socket":         "unix:///nowhere/redis.sock",
		"packets swallowed": hole.url(),
		"no leader":         server.URL(),
		"wrong password":    "redis://u:hunter2@" + server.Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replica := start(t, url)
			at := replica.await(t, "Down", 0, isDown)
			down := replica.all()[at]
			if took := down.at.Sub(replica.started); took > time.Second+slack {
				t.Errorf("Down came after %s, want about 1s at most", took)
			}
			if strings.Contains(down.down.Error(), "hunter2") {
				t.Errorf("the reason shows the password: %v", down.down)
			}
			within(t, patienceOrSo, "Subscribe while down", func() { replica.subscribe(t, "alice") })
		})
	}
}

// patienceOrSo is what Subscribe may take while the bus is not up, with room for a busy machine.
const patienceOrSo = time.Second

// Without a leader the bus stays down, connection after connection, and says so once.
func TestBus_DownOnceWithoutALeader(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica := start(t, server.URL())
	replica.subscribe(t, "alice")
	eventually(t, "three connections", func() bool {
		return replica.metric(t, "reelay_bus_connections_total") >= 3
	})
	calls := replica.all()
	if len(calls) != 1 || calls[0].down == nil {
		t.Fatalf("want Down once and nothing else, got:\n%s", describe(calls))
	}
	leader := lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	leader.await(t, "Up", 0, isUp)
	replica.await(t, "event", up, isEventAt(leader.mustPublish(t, "alice")))
	if n := count(replica.all(), isDown); n != 1 {
		t.Errorf("Down was called %d times, want once", n)
	}
}

// A bus that came up in its first second stays up when that second is over.
func TestBus_StaysUp(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	leader := lead(t, server.URL())
	leader.await(t, "Up", 0, isUp)
	var replica *replica // the first that was quick enough
	var up int
	eventually(t, "Up in the first second", func() bool {
		replica = start(t, server.URL())
		up = replica.await(t, "Up", 0, isUp)
		if replica.all()[up].at.Sub(replica.started) < 900*time.Millisecond {
			return true
		}
		replica.stop()
		return false
	})
	replica.await(t, "mark after two seconds", up, func(c call) bool {
		return c.mark != nil && c.at.Sub(replica.started) > 2*time.Second
	})
	if calls := replica.all(); count(calls, isDown) > 0 || count(calls, isUp) != 1 {
		t.Errorf("want one Up and no Down, got:\n%s", describe(calls))
	}
	if got := replica.metric(t, "reelay_bus_up"); got != 1 {
		t.Errorf("reelay_bus_up is %v, want 1", got)
	}
}

// The log says what happened and nothing of anybody's data.
func TestBus_LogsNoOwners(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	var out lockedBuffer
	leader := lead(t, server.URL())
	replica := start(t, server.URL(), func(cfg *redisbus.Config, _ *recorder) {
		cfg.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "secret-owner")
	spy := newSpy(t, server.URL())
	for _, channel := range channelsOf("secret-owner") {
		spy.publish(t, channel, []byte("\x02secret-data, and nobody's signature"))
	}
	position, err := leader.publishWith(func(e *hub.Event) { e.Subject = "secret-key" }, "secret-owner")
	if err != nil {
		t.Fatal(err)
	}
	replica.await(t, "event", up, isEventAt(position))
	// Published by the replica itself, and refused.
	_ = replica.Publish(t.Context(), hub.Batch{
		Log: "l", Epoch: 1, From: 900, Head: 901,
		Events: []*hub.Event{{
			Position: 901, Sequence: 1, Owner: "secret-owner", Subject: "secret-key", Type: "reelay.secret",
		}},
	})
	replica.await(t, "mark", up, isMarkTo(901))
	replica.stop()
	if text := out.String(); strings.Contains(text, "secret") {
		t.Errorf("the log tells secrets:\n%s", text)
	} else if !strings.Contains(text, "bus up") || !strings.Contains(text, "rejected") || !strings.Contains(text, "901") {
		t.Errorf("the log lacks what happened:\n%s", text)
	}
}

// Run ends when its context does, whatever it is doing, and leaves nothing behind (TestMain looks).
func TestBus_RunEndsAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	hole := newProxy(t, server.Addr())
	hole.hold()
	for name, url := range map[string]string{
		"up": server.URL(), "redialing": "unix:///nowhere/redis.sock", "greeting": hole.url(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replica := start(t, url)
			switch name {
			case "up":
				lead(t, url)
				replica.await(t, "Up", 0, isUp)
			case "redialing":
				replica.await(t, "Down", 0, isDown)
			case "greeting":
				eventually(t, "a connection", hole.used)
			}
			within(t, 400*time.Millisecond, "the end of Run", replica.stop)
			if name == "up" {
				client := admin(t, url)
				eventually(t, "only the leader still listens", func() bool {
					list, err := client.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
					return err == nil && strings.Count(list, "id=") == 1
				})
			}
			n := len(replica.all())
			if err := replica.Publish(t.Context(), hub.Batch{Log: "l"}); err == nil {
				t.Error("Publish worked after the end of Run")
			}
			within(t, patienceOrSo, "Subscribe after the end", func() { replica.subscribe(t, "bob") })
			if len(replica.all()) != n {
				t.Error("the receiver was called after the end of Run")
			}
		})
	}
}

func TestBus_PublishFailsBeforeRun(t *testing.T) {
	t.Parallel()
	bus, err := redisbus.New(redisbus.Config{URL: "redis://localhost", Key: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Publish(t.Context(), hub.Batch{Log: "l"}); err == nil {
		t.Error("Publish worked before Run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Run(ctx, newRecorder()); err != nil {
		t.Errorf("Run with a context that has ended: %v", err)
	}
}
