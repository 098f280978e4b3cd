package redisbus_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// Whoever gets at Redis and has no secret makes nobody believe anything: what they publish is dropped and counted, and
// what is genuine arrives as if they were not there.
func TestBus_DropsForgedMessages(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice", "bob")
	spy := newSpy(t, server.URL())
	leader.mustPublish(t, "bob", "alice", "alice")
	replica.await(t, "mark", up, isMarkTo(3)) // all of it has come: what comes from here on is a test's
	event, bobs, mark := spy.last(t, channelsOf("alice")...), spy.last(t, channelsOf("bob")...), spy.last(t, control)
	const other = "what somebody else would use as a secret"
	alices := event.channel
	genuine := []byte(event.message)
	flipped := bytes.Clone(genuine)
	flipped[len(flipped)-20] ^= 1
	higher := wire{2, 'e'}.s("k3f9a2bq").n(1_000_000).n(2).s("alice").n(2).n(1002).what("video.updated").s(`{"a":1}`)
	bob := wire{2, 'e'}.s("k3f9a2bq").n(7).n(1).s("bob").n(1).n(1001).what("video.updated").s(`{"a":1}`)
	old := wire{2, 'e'}.s("k3f9a2bq").n(7).n(1).s("alice").n(1).n(1001).what("video.updated").s(`{"a":1}`)
	tomorrow := wire{2, 'm'}.s("k3f9a2bq").n(1_000_000).n(0).n(1e9).n(1e9)
	for _, forged := range []struct {
		name, reason, channel string
		message               []byte
	}{
		{"nothing", "version", alices, nil},
		{"JSON, as other gateways send it", "version", alices, []byte(`{"type":"video.updated","owner":"alice"}`)},
		{"JSON behind our version", "signature", alices, []byte("\x02" + `{"type":"video.updated","owner":"alice"}`)},
		{"any bytes", "signature", alices, append([]byte{2}, bytes.Repeat([]byte{0xff}, 500)...)},
		{"too short for a signature", "signature", alices, []byte{2, 'e'}},
		{"no signature", "signature", alices, old},
		{"a signature of zeros", "signature", alices, append(slices.Clone(old), make([]byte, 16)...)},
		{"cut off by a byte", "signature", alices, genuine[:len(genuine)-1]},
		{"cut off by a half", "signature", alices, genuine[:len(genuine)/2]},
		{"one bit changed", "signature", alices, flipped},
		{"something after the end", "signature", alices, append(slices.Clone(genuine), 'x')},
		{"a higher epoch", "signature", alices, higher.signed(other, alices)},
		{"another owner's event", "signature", alices, bob.signed(other, alices)},
		{"an old position", "signature", alices, old.signed(other, alices)},
		{"a genuine body, signed with another key", "signature", alices, wire(genuine[:len(genuine)-16]).signed(other, alices)},
		{"another owner's genuine message", "signature", alices, []byte(bobs.message)},
		{"a genuine mark on an owner's channel", "signature", alices, []byte(mark.message)},
		{"a genuine event as a mark", "signature", control, genuine},
		{"nothing as a mark", "version", control, nil},
		{"JSON as a mark", "version", control, []byte(`{"head":1}`)},
		{"a mark of a higher epoch", "signature", control, tomorrow.signed(other, control)},
		{"a mark without a signature", "signature", control, tomorrow},
		{"a mark that is cut off", "signature", control, []byte(mark.message)[:20]},
		{"a genuine mark again", "old", control, []byte(mark.message)},
	} {
		t.Run(forged.name, func(t *testing.T) {
			rejected := func() float64 {
				return replica.metric(t, "reelay_bus_messages_rejected_total", "reason="+forged.reason)
			}
			before, from := rejected(), len(replica.all())
			spy.publish(t, forged.channel, forged.message)
			next := leader.mustPublish(t, "alice") // the marker: it must be the next event seen
			at := replica.await(t, "mark", replica.await(t, "event", from, isEventAt(next)), isMarkTo(next))
			if got := rejected() - before; got != 1 {
				t.Errorf("%v messages were counted as rejected for %q, want 1", got, forged.reason)
			}
			events := func(c call) bool { return c.event != nil }
			if calls := replica.all()[from : at+1]; count(calls, events) != 1 {
				t.Errorf("something else was delivered:\n%s", describe(calls))
			}
		})
	}
	calls := replica.all()[up:]
	leader.mu.Lock()
	defer leader.mu.Unlock()
	for _, c := range calls {
		if c.mark != nil && (c.mark.Head > leader.head || c.mark.Epoch != 7) {
			t.Errorf("a forged mark was handed over: %+v", *c.mark)
		}
	}
	if n := count(calls, isDown); n > 0 {
		t.Errorf("the bus went down %d times: forgeries make the replicas read the log", n)
	}
}

// As many forgeries as Redis takes cost the genuine messages nothing but time.
func TestBus_CarriesOnThroughAFlood(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replica, leader := start(t, server.URL()), lead(t, server.URL())
	up := replica.await(t, "Up", 0, isUp)
	replica.subscribe(t, "alice")
	spy := newSpy(t, server.URL())
	first := leader.mustPublish(t, "alice")
	alices := spy.last(t, channelsOf("alice")...).channel
	event := event().who("alice").what("video.updated").s(`{"a":1}`).signed("nobody's secret at all", alices)
	mark := mark().n(1e6).n(0).n(1e9).n(1e9).signed("nobody's secret at all", control)
	const rounds, each = 40, 500
	flooded := make(chan error, 1)
	go func() {
		client := admin(t, server.URL())
		for range rounds {
			pipe := client.Pipeline()
			for range each {
				pipe.Publish(t.Context(), alices, event)
				pipe.Publish(t.Context(), control, mark)
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				flooded <- err
				return
			}
		}
		flooded <- nil
	}()
	last, flooding := first, true
	for flooding {
		select {
		case err := <-flooded:
			if err != nil {
				t.Fatal(err)
			}
			flooding = false
		default:
			last = leader.mustPublish(t, "alice")
		}
	}
	end := replica.await(t, "last mark", up, isMarkTo(last))
	eventually(t, "all forgeries are counted", func() bool {
		return replica.metric(t, "reelay_bus_messages_rejected_total", "reason=signature") == 2*rounds*each
	})
	t.Logf("%d genuine events among %d forged messages", last-first, 2*rounds*each)
	next := first
	for _, c := range replica.all()[up : end+1] {
		if c.down != nil || c.mark != nil && c.mark.Head > last {
			t.Fatalf("the flood did something:\n%s", describe([]call{c}))
		}
		if c.event == nil {
			continue
		}
		if c.event.Position != next {
			t.Fatalf("position %d came, want %d", c.event.Position, next)
		}
		next++
	}
	if next != last+1 {
		t.Errorf("the last position that came is %d, want %d", next-1, last)
	}
}

// Marks that nobody believes do not keep the bus up: not those of another key, not those of a leader of another version,
// as in a rolling upgrade, and not genuine ones that somebody repeats. Nor do events.
func TestBus_OtherMarksAreSilence(t *testing.T) {
	t.Parallel()
	before := append(wire{1}, mark().n(7).n(0).n(1)[1:]...)
	for _, other := range []struct {
		name, reason string
		message      func(genuine string) []byte
	}{
		{"forged", "signature", func(string) []byte { return mark().n(7).n(0).n(1).n(1e9).signed("somebody else's secret", control) }},
		{"of the version before", "version", func(string) []byte { return before }},
		{"of the version after", "version", func(genuine string) []byte { return []byte("\x03" + genuine[1:]) }},
		{"malformed", "layout", func(string) []byte { return mark().end("x").signed(sharedSecret, control) }},
		{"repeated", "old", func(genuine string) []byte { return []byte(genuine) }},
	} {
		t.Run(other.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.New(t)
			replica, leader := start(t, server.URL()), lead(t, server.URL())
			replica.await(t, "Up", 0, isUp)
			replica.subscribe(t, "alice")
			spy := newSpy(t, server.URL())
			leader.mustPublish(t, "alice")
			genuine, event := spy.last(t, control), spy.last(t, channelsOf("alice")...)
			leader.quiet.Store(true)
			from := len(replica.all())
			eventually(t, "Down", func() bool {
				spy.publish(t, control, other.message(genuine.message))
				spy.publish(t, event.channel, []byte(event.message)) // genuine, but no sign of life
				return count(replica.all()[from:], isDown) > 0
			})
			down := replica.await(t, "Down", from, isDown)
			checkSilence(t, replica.all(), down)
			if !strings.Contains(replica.all()[down].down.Error(), "no mark") {
				t.Errorf("the reason is %v", replica.all()[down].down)
			}
			if n := replica.metric(t, "reelay_bus_messages_rejected_total", "reason="+other.reason); n < 1 {
				t.Errorf("%v messages were counted as rejected for %q", n, other.reason)
			}
			if n := replica.metric(t, "reelay_bus_messages_rejected_total", "reason=signature"); n > 0 && other.reason != "signature" {
				t.Errorf("%v messages were counted as forged", n)
			}
		})
	}
}
