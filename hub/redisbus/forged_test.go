package redisbus_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// forge publishes any bytes on an owner's channel, as whoever gets at Redis can.
func forge(t *testing.T, client *redis.Client, owner hub.Owner, message []byte) {
	t.Helper()
	for tag := range 16 { // one of them is the owner's
		channel := fmt.Sprintf("reelay:{%x}:o:%s", tag, base64.RawURLEncoding.EncodeToString([]byte(owner)))
		if err := client.Publish(t.Context(), channel, message).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// wire writes messages without the package's help, and without its checks.
type wire []byte

func (w wire) n(n uint64) wire    { return binary.AppendUvarint(w, n) }
func (w wire) s(s string) wire    { return append(w.n(uint64(len(s))), s...) }
func (w wire) time(t int64) wire  { return wire(binary.AppendVarint(w, t)).n(5) }
func (w wire) end(s string) wire  { return append(w, s...) }
func event() wire                 { return wire{1, 'e'}.s("k3f9a2bq") }
func mark() wire                  { return wire{1, 'm'}.s("k3f9a2bq") }
func (w wire) who(o string) wire  { return w.n(7).n(1).s(o).n(1).n(1) }
func (w wire) what(t string) wire { return w.s(t).s("vid_1").time(1700000000) }

// Bytes that are no event of the owner whose channel they came on are dropped and counted, whatever they are.
func TestBus_DropsForgedMessages(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	client := admin(t, server.URL())
	good := event().who("alice").what("video.updated").s(`{"a":1}`)
	const negative = math.MaxUint64
	for _, forged := range []struct {
		name, reason string
		message      wire
	}{
		{"nothing", "version", wire{}},
		{"JSON, as other gateways send it", "version", wire(`{"type":"video.updated","owner":"alice"}`)},
		{"the version after ours", "version", append(wire{2}, good[1:]...)},
		{"a mark on an owner's channel", "kind", mark().n(7).n(0).n(1)},
		{"an unknown kind", "kind", append(wire{1, 'x'}, good[2:]...)},
		{"bad JSON", "data", event().who("alice").what("video.updated").s(`{"a":`)},
		{"two JSON values", "data", event().who("alice").what("video.updated").s(`{}{}`)},
		{"JSON that is not UTF-8", "data", event().who("alice").what("video.updated").s("{\"a\":\"\xff\"}")},
		{"negative epoch", "number", event().n(negative).n(1).s("alice").n(1).n(1).what("video.updated").s(`{}`)},
		{"negative position", "number", event().n(7).n(negative).s("alice").n(1).n(1).what("video.updated").s(`{}`)},
		{"position 0", "number", event().n(7).n(0).s("alice").n(1).n(1).what("video.updated").s(`{}`)},
		{"negative sequence", "number", event().n(7).n(1).s("alice").n(negative).n(1).what("video.updated").s(`{}`)},
		{"negative outbox id", "number", event().n(7).n(1).s("alice").n(1).n(negative).what("video.updated").s(`{}`)},
		{"another owner's event", "channel", event().who("bob").what("video.updated").s(`{}`)},
		{"an owner who begins alike", "channel", event().who("alice2").what("video.updated").s(`{}`)},
		{"nobody's event", "channel", event().who("").what("video.updated").s(`{}`)},
		{"a frame of the gateway", "type", event().who("alice").what("reelay.reset").s(`{}`)},
		{"no type", "type", event().who("alice").what("").s(`{}`)},
		{"type that is not UTF-8", "text", event().who("alice").what("video.\xff").s(`{}`)},
		{"a log of another form", "log", wire{1, 'e'}.s("A.1").who("alice").what("video.updated").s(`{}`)},
		{"no log", "log", wire{1, 'e'}.s("").who("alice").what("video.updated").s(`{}`)},
		{"year 10000", "time", event().who("alice").s("video.updated").s("x").time(253402300800).s(`{}`)},
		{"seconds of 2^62", "time", event().who("alice").s("video.updated").s("x").time(1 << 62).s(`{}`)},
		{"cut off", "layout", good[:len(good)-1]},
		{"data missing", "layout", event().who("alice").what("video.updated")},
		{"a length far beyond the end", "layout", event().who("alice").what("video.updated").n(1 << 40)},
		{"something after the end", "layout", good.end("x")},
		{"a number longer than it needs to be", "layout", append(event(), 0x87, 0).n(1).s("alice").n(1).n(1).what("v").s(`{}`)},
	} {
		t.Run(forged.name, func(t *testing.T) {
			count := func() float64 {
				return replica.metric(t, "reelay_bus_messages_rejected_total", "reason="+forged.reason)
			}
			before := count()
			forge(t, client, "alice", forged.message)
			from := len(replica.all())
			next := leader.mustPublish(t, "alice") // the marker: it must be the next event seen
			replica.await(t, "event", from, isEventAt(next))
			if got := count() - before; got != 1 {
				t.Errorf("%v messages were counted as rejected for %q, want 1", got, forged.reason)
			}
		})
	}
	// Well formed, and so not for the bus to judge: the hub drops it by its sequence and epoch.
	forge(t, client, "alice", good)
	isForged := func(c call) bool { return c.event != nil && string(c.event.Data) == `{"a":1}` }
	replica.await(t, "well-formed event", up, isForged)
	for _, c := range replica.all() {
		if c.event != nil && !isForged(c) && (c.event.OutboxID <= 1000 || c.event.Type != "video.updated") {
			t.Errorf("a forged event was delivered: %+v", c.event)
		}
	}
}

func TestBus_DropsForgedMarks(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	client := admin(t, server.URL())
	const negative = math.MaxUint64
	for _, forged := range []struct {
		name, reason string
		message      wire
	}{
		{"nothing", "version", wire{}},
		{"JSON", "version", wire(`{"head":1}`)},
		{"an event on the control channel", "kind", event().who("alice").what("video.updated").s(`{}`)},
		{"negative epoch", "number", mark().n(negative).n(0).n(1)},
		{"negative from", "number", mark().n(7).n(negative).n(1)},
		{"negative head", "number", mark().n(7).n(0).n(negative)},
		{"head before from", "number", mark().n(7).n(1e9).n(1e9 - 1)},
		{"bad log", "log", wire{1, 'm'}.s("x y").n(7).n(0).n(1e9)},
		{"cut off", "layout", mark().n(7).n(0)},
		{"something after the end", "layout", mark().n(7).n(0).n(1e9).n(1)},
	} {
		t.Run(forged.name, func(t *testing.T) {
			count := func() float64 {
				return replica.metric(t, "reelay_bus_messages_rejected_total", "reason="+forged.reason)
			}
			before := count()
			if err := client.Publish(t.Context(), "reelay:{0}:control", []byte(forged.message)).Err(); err != nil {
				t.Fatal(err)
			}
			replica.await(t, "mark", up, isMarkTo(leader.mustPublish(t, "bob")))
			if got := count() - before; got != 1 {
				t.Errorf("%v messages were counted as rejected for %q, want 1", got, forged.reason)
			}
		})
	}
	leader.mu.Lock()
	defer leader.mu.Unlock()
	for _, c := range replica.all() {
		if c.mark != nil && c.mark.Head > leader.head {
			t.Errorf("a forged mark was handed over: %+v", *c.mark)
		}
	}
}

// Marks that nobody can read do not keep the bus up: a leader of a newer version is a silent one. Nor do events.
func TestBus_ForgedMarksAreSilence(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	leader.quiet.Store(true)
	from := len(replica.all())
	client := admin(t, server.URL())
	eventually(t, "Down", func() bool {
		// Events alone are no sign of life either.
		forge(t, client, "alice", event().who("alice").what("video.updated").s(`{}`))
		if err := client.Publish(t.Context(), "reelay:{0}:control", []byte(mark().end("x"))).Err(); err != nil {
			t.Fatal(err)
		}
		return count(replica.all()[from:], isDown) > 0
	})
}
