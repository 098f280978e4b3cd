package api

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// recorded is a connection that keeps what is written to it, write by write.
type recorded struct {
	net.Conn

	writes   []string
	deadline time.Time
}

func (r *recorded) Write(p []byte) (int, error) {
	r.writes = append(r.writes, string(p))
	return len(p), nil
}

func (r *recorded) SetWriteDeadline(t time.Time) error {
	r.deadline = t
	return nil
}

// TestWire_GathersALoad gives it frames as the library does: each after a deadline.
func TestWire_GathersALoad(t *testing.T) {
	t.Parallel()
	const a, b, c = "\x81\x01a", "\x81\x01b", "\x81\x01c"
	const ping, pong, closing = "\x89\x00", "\x8a\x01p", "\x88\x02\x03\xe8"
	now := time.Now()
	type step struct {
		deadline time.Time
		pieces   []string
	}
	one := func(deadline time.Time, pieces ...string) step { return step{deadline, pieces} }
	for name, test := range map[string]struct {
		steps []step
		want  []string
	}{
		"one frame":           {[]step{one(now, a)}, []string{a}},
		"three":               {[]step{one(moreFollows, a), one(moreFollows, b), one(now, c)}, []string{a + b + c}},
		"two loads":           {[]step{one(moreFollows, a), one(now, b), one(now, c)}, []string{a + b, c}},
		"a ping before":       {[]step{one(now, ping), one(moreFollows, a), one(now, b)}, []string{ping, a + b}},
		"a pong amid":         {[]step{one(moreFollows, a), one(now, pong), one(moreFollows, b), one(now, c)}, []string{a + pong + b + c}},
		"a pong near the end": {[]step{one(moreFollows, a), one(now, pong), one(now, b)}, []string{a + pong + b}},
		"a close frame amid":  {[]step{one(moreFollows, a), one(moreFollows, b), one(now, closing)}, []string{a + b + closing}},
		"a large one last":    {[]step{one(moreFollows, a), one(now, "\x81\x05lar", "\x89e")}, []string{a + "\x81\x05lar", "\x89e"}},
		"a large one first":   {[]step{one(moreFollows, "\x81\x05lar", "\x89e"), one(now, b)}, []string{"\x81\x05lar\x89e" + b}},
	} {
		conn := new(recorded)
		w := &wire{Conn: conn}
		for _, s := range test.steps {
			if err := w.SetWriteDeadline(s.deadline); err != nil {
				t.Fatal(err)
			}
			for _, piece := range s.pieces {
				if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
					t.Fatalf("%s: a write of %d bytes returned %d, %v", name, len(piece), n, err)
				}
			}
		}
		if !slices.Equal(conn.writes, test.want) {
			t.Errorf("%s: written was %q, want %q", name, conn.writes, test.want)
		}
		if conn.deadline != now {
			t.Errorf("%s: the deadline is %v, want %v", name, conn.deadline, now)
		}
	}
}

// TestWire_CloseFrameAmidALoad has the library end a WebSocket between two frames of a load: nothing that was given to it
// is lost, and nothing follows.
func TestWire_CloseFrameAmidALoad(t *testing.T) {
	t.Parallel()
	conn := new(recorded)
	w := &wire{Conn: conn}
	for _, p := range []string{"\x81\x01a", "\x81\x01b"} {
		_ = w.SetWriteDeadline(moreFollows)
		_, _ = w.Write([]byte(p))
	}
	_ = w.SetWriteDeadline(time.Now())
	message := websocket.FormatCloseMessage(closeProtocol, "words of the library")
	_, _ = w.Write(append([]byte{0x88, byte(len(message))}, message...))
	reworded := string(websocket.FormatCloseMessage(closeProtocol, errProtocol.Code))
	want := []string{"\x81\x01a\x81\x01b\x88" + string(rune(len(reworded))) + reworded}
	if !slices.Equal(conn.writes, want) {
		t.Errorf("written was %q, want %q", conn.writes, want)
	}
}
