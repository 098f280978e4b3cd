package redisbus_test

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// wire writes messages without the package's help, and without its checks.
type wire []byte

func (w wire) n(n uint64) wire    { return binary.AppendUvarint(w, n) }
func (w wire) s(s string) wire    { return append(w.n(uint64(len(s))), s...) }
func (w wire) time(t int64) wire  { return wire(binary.AppendVarint(w, t)).n(5) }
func (w wire) end(s string) wire  { return append(w, s...) }
func event() wire                 { return wire{2, 'e'}.s("k3f9a2bq") }
func mark() wire                  { return wire{2, 'm'}.s("k3f9a2bq") }
func (w wire) who(o string) wire  { return w.n(7).n(1).s(o).n(1).n(1) }
func (w wire) what(t string) wire { return w.s(t).s("vid_1").time(1700000000) }

// signed returns the message with the tag that it has on a channel. It is written after sign.go's comment, not its code.
func (w wire) signed(secret, channel string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "reelay/redisbus/messages", 32)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(wire{}.s(channel))
	mac.Write(w)
	return append(slices.Clone(w), mac.Sum(nil)[:16]...)
}

// A leader gone wrong: what it signs and nobody can make sense of is dropped and counted, whatever it is. So is what is
// no event of the owner whose channel it came on.
func TestBus_DropsMalformedEvents(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	spy := newSpy(t, server.URL())
	good := event().who("alice").what("video.updated").s(`{"a":1}`)
	const negative = math.MaxUint64
	for _, malformed := range []struct {
		name, reason string
		message      wire
	}{
		{"the version before ours", "version", append(wire{1}, good[1:]...)},
		{"the version after ours", "version", append(wire{3}, good[1:]...)},
		{"no body", "kind", wire{2}},
		{"a mark on an owner's channel", "kind", mark().n(7).n(0).n(1)},
		{"an unknown kind", "kind", append(wire{2, 'x'}, good[2:]...)},
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
		{"a log of another form", "log", wire{2, 'e'}.s("A.1").who("alice").what("video.updated").s(`{}`)},
		{"no log", "log", wire{2, 'e'}.s("").who("alice").what("video.updated").s(`{}`)},
		{"year 10000", "time", event().who("alice").s("video.updated").s("x").time(253402300800).s(`{}`)},
		{"seconds of 2^62", "time", event().who("alice").s("video.updated").s("x").time(1 << 62).s(`{}`)},
		{"cut off", "layout", good[:len(good)-1]},
		{"data missing", "layout", event().who("alice").what("video.updated")},
		{"a length far beyond the end", "layout", event().who("alice").what("video.updated").n(1 << 40)},
		{"something after the end", "layout", good.end("x")},
		{"a number longer than it needs to be", "layout", append(event(), 0x87, 0).n(1).s("alice").n(1).n(1).what("v").s(`{}`)},
	} {
		t.Run(malformed.name, func(t *testing.T) {
			count := func() float64 {
				return replica.metric(t, "reelay_bus_messages_rejected_total", "reason="+malformed.reason)
			}
			before := count()
			for _, channel := range channelsOf("alice") {
				spy.publish(t, channel, malformed.message.signed(sharedSecret, channel))
			}
			from := len(replica.all())
			next := leader.mustPublish(t, "alice") // the marker: it must be the next event seen
			replica.await(t, "event", from, isEventAt(next))
			if got := count() - before; got != 1 {
				t.Errorf("%v messages were counted as rejected for %q, want 1", got, malformed.reason)
			}
		})
	}
	for _, c := range replica.all()[up:] {
		if c.event != nil && (c.event.OutboxID <= 1000 || c.event.Type != "video.updated") {
			t.Errorf("a malformed event was delivered: %+v", c.event)
		}
	}
}

func TestBus_DropsMalformedMarks(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	spy := newSpy(t, server.URL())
	const negative = math.MaxUint64
	for _, malformed := range []struct {
		name, reason string
		message      wire
	}{
		{"an event on the control channel", "kind", event().who("alice").what("video.updated").s(`{}`)},
		{"negative epoch", "number", mark().n(negative).n(0).n(1).n(1)},
		{"negative from", "number", mark().n(7).n(negative).n(1).n(1)},
		{"negative head", "number", mark().n(7).n(0).n(negative).n(1)},
		{"head before from", "number", mark().n(7).n(1e9).n(1e9 - 1).n(1)},
		{"bad log", "log", wire{2, 'm'}.s("x y").n(7).n(0).n(1e9).n(1)},
		{"cut off", "layout", mark().n(7).n(0).n(1e9)},
		{"serial 0", "number", mark().n(7).n(0).n(1e9).n(0)},
		{"something after the end", "layout", mark().n(7).n(0).n(1e9).n(1).n(1)},
	} {
		t.Run(malformed.name, func(t *testing.T) {
			count := func() float64 {
				return replica.metric(t, "reelay_bus_messages_rejected_total", "reason="+malformed.reason)
			}
			before := count()
			spy.publish(t, control, malformed.message.signed(sharedSecret, control))
			replica.await(t, "mark", up, isMarkTo(leader.mustPublish(t, "bob")))
			if got := count() - before; got != 1 {
				t.Errorf("%v messages were counted as rejected for %q, want 1", got, malformed.reason)
			}
		})
	}
	leader.mu.Lock()
	defer leader.mu.Unlock()
	for _, c := range replica.all() {
		if c.mark != nil && c.mark.Head > leader.head {
			t.Errorf("a malformed mark was handed over: %+v", *c.mark)
		}
	}
}
