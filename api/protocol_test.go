package api_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// Parts of the first byte of a frame.
const (
	final                        = 0x80
	reserved1                    = 0x40
	continuation, text, bin      = 0x0, 0x1, 0x2
	closing, ping, pong          = 0x8, 0x9, 0xa
	unmasked                byte = 0
	masked                  byte = 0x80
)

// raw makes a frame of a client, as wrong as it is wanted. The mask is all zeros, so that the payload stands as it is.
func raw(first, mask byte, payload []byte) []byte {
	frame := head(first, mask, uint64(len(payload)))
	return append(frame, payload...)
}

// head makes the header of a frame of any length.
func head(first, mask byte, length uint64) []byte {
	frame := []byte{first}
	switch {
	case length > 0xffff:
		frame = binary.BigEndian.AppendUint64(append(frame, mask|127), length)
	case length > 125:
		frame = binary.BigEndian.AppendUint16(append(frame, mask|126), uint16(length))
	default:
		frame = append(frame, mask|byte(length))
	}
	if mask != 0 {
		frame = append(frame, 0, 0, 0, 0)
	}
	return frame
}

func join(frames ...[]byte) []byte { return slices.Concat(frames...) }

var aPing = []byte(`{"type":"ping"}`)

// TestProtocol_Broken follows RFC 6455 sections 5 to 7. Reasons that the library chooses are its own words.
func TestProtocol_Broken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent []byte
		code int
	}{
		"unmasked":                    {raw(final|text, unmasked, aPing), 1002},
		"reserved bit 1":              {raw(final|text|reserved1, masked, aPing), 1002},
		"reserved bit 2":              {raw(final|text|0x20, masked, aPing), 1002},
		"reserved bit 3":              {raw(final|text|0x10, masked, aPing), 1002},
		"reserved opcode 3":           {raw(final|3, masked, aPing), 1002},
		"reserved opcode 7":           {raw(final|7, masked, nil), 1002},
		"reserved control opcode 11":  {raw(final|11, masked, nil), 1002},
		"reserved control opcode 15":  {raw(final|15, masked, nil), 1002},
		"long ping":                   {raw(final|ping, masked, make([]byte, 126)), 1002},
		"long close":                  {raw(final|closing, masked, append([]byte{3, 232}, make([]byte, 124)...)), 1002},
		"fragmented ping":             {raw(ping, masked, nil), 1002},
		"fragmented close":            {raw(closing, masked, nil), 1002},
		"stray continuation":          {raw(final|continuation, masked, aPing), 1002},
		"stray first continuation":    {raw(continuation, masked, aPing), 1002},
		"text within a message":       {join(raw(text, masked, aPing), raw(final|text, masked, aPing)), 1002},
		"binary within a message":     {join(raw(text, masked, aPing), raw(final|bin, masked, aPing)), 1002},
		"continuation after the last": {join(raw(text, masked, aPing[:3]), raw(final|continuation, masked, aPing[3:]), raw(final|continuation, masked, nil)), 1002},
		"deflated":                    {raw(final|text|reserved1, masked, []byte{0xaa, 0x56, 0x2a, 0xa9, 0x2c, 0x48, 0x05, 0x00}), 1002},
		"half a close code":           {raw(final|closing, masked, []byte{3}), 1002},
		"close code 0":                {raw(final|closing, masked, []byte{0, 0}), 1002},
		"close code 999":              {raw(final|closing, masked, []byte{3, 231}), 1002},
		"close code 1004":             {raw(final|closing, masked, []byte{3, 236}), 1002},
		"close code 1005":             {raw(final|closing, masked, []byte{3, 237}), 1002},
		"close code 1006":             {raw(final|closing, masked, []byte{3, 238}), 1002},
		"close code 1015":             {raw(final|closing, masked, []byte{3, 247}), 1002},
		"close code 1016":             {raw(final|closing, masked, []byte{3, 248}), 1002},
		"close code 2999":             {raw(final|closing, masked, []byte{11, 183}), 1002},
		"close code 5000":             {raw(final|closing, masked, []byte{19, 136}), 1002},
		"close reason not UTF-8":      {raw(final|closing, masked, []byte{3, 232, 0xff}), 1002},

		"not UTF-8":                  {raw(final|text, masked, []byte("{\"type\":\"ping\",\"ref\":\"\xff\"}")), 1007},
		"surrogates in UTF-8":        {raw(final|text, masked, []byte("\xed\xa0\x80")), 1007},
		"overlong UTF-8":             {raw(final|text, masked, []byte("\xc0\xaf")), 1007},
		"beyond Unicode":             {raw(final|text, masked, []byte("\xf4\x90\x80\x80")), 1007},
		"cut UTF-8":                  {raw(final|text, masked, []byte("\xe2\x82")), 1007},
		"not UTF-8 in two fragments": {join(raw(text, masked, []byte("\xe2\x82")), raw(final|continuation, masked, []byte("x"))), 1007},
		"binary":                     {raw(final|bin, masked, aPing), 1003},
		"empty binary":               {raw(final|bin, masked, nil), 1003},

		"too big":                  {raw(final|text, masked, make([]byte, 12<<10+1)), 1009},
		"much too big":             {head(final|text, masked, 1<<40), 1009},
		"2^63 - 1 bytes":           {head(final|text, masked, 1<<63-1), 1009},
		"2^63 bytes":               {head(final|text, masked, 1<<63), 1009},
		"2^64 - 1 bytes":           {head(final|text, masked, 1<<64-1), 1009},
		"too big by fragments":     {join(raw(text, masked, make([]byte, 12<<10)), raw(final|continuation, masked, []byte("x"))), 1009},
		"overflowing by fragments": {join(raw(text, masked, []byte("xxxx")), head(final|continuation, masked, 1<<63-1)), 1009},
		"binary and too big":       {raw(final|bin, masked, make([]byte, 12<<10+1)), 1009},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				client := w.live("alice")
				var sending sync.WaitGroup
				sending.Go(func() { client.sendRaw(c.sent) })
				client.ends(c.code)
				// A client that answers nothing and goes on sending is cut.
				sending.Go(func() { client.sendRaw(bytes.Repeat(raw(final|ping, masked, nil), 100)) })
				pass(3 * time.Second)
				sending.Wait()
				if got := w.metric("reelay_connections"); got != "0" {
					w.Errorf("%s connections are left", got)
				}
			})
		})
	}
}

// ends checks that the socket ends by a close frame of a code, whatever its reason.
func (c *client) ends(code int) {
	c.w.Helper()
	select {
	case f, open := <-c.frames:
		if open {
			c.w.Fatalf("waiting for the end with %d: got %s", code, f.raw)
		}
	case <-time.After(patience):
		c.w.Fatalf("waiting for the end with %d: nothing came", code)
	}
	if !websocket.IsCloseError(c.end, code) {
		c.w.Fatalf("the socket ended with %v, want %d", c.end, code)
	}
}

func TestProtocol_Kept(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string][]byte{
		"one frame":                     raw(final|text, masked, aPing),
		"two fragments":                 join(raw(text, masked, aPing[:5]), raw(final|continuation, masked, aPing[5:])),
		"empty fragments":               join(raw(text, masked, nil), raw(continuation, masked, nil), raw(final|continuation, masked, aPing)),
		"fragments with pings between":  join(raw(text, masked, aPing[:5]), raw(final|ping, masked, []byte("x")), raw(final|continuation, masked, aPing[5:])),
		"fragments that cut characters": join(raw(text, masked, []byte("{\"type\":\"ping\",\"ref\":\"\xe2\x82")), raw(final|continuation, masked, []byte("\xac\"}"))),
		"after an unasked pong":         join(raw(final|pong, masked, []byte("unasked")), raw(final|text, masked, aPing)),
		"of the largest size":           raw(final|text, masked, append(bytes.Clone(aPing), bytes.Repeat([]byte(" "), 12<<10-len(aPing))...)),
		"with a length too wide":        join([]byte{final | text, masked | 127, 0, 0, 0, 0, 0, 0, 0, byte(len(aPing)), 0, 0, 0, 0}, aPing),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, pieces := range []int{1, len(sent)} { // at once, and byte by byte
				inWorld(t, func(w *world) {
					client := w.live("alice")
					for piece := range slices.Chunk(sent, len(sent)/pieces) {
						client.sendRaw(piece)
					}
					client.next("reelay.pong")
					pass(20 * time.Second) // and no timer of a message runs on
					client.silent()
				})
			}
		})
	}
}

func TestProtocol_CloseOfTheClient(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent []byte
		code int
	}{
		"1000":      {raw(final|closing, masked, []byte{3, 232}), 1000},
		"1001":      {raw(final|closing, masked, []byte("\x03\xe9going")), 1001},
		"4999":      {raw(final|closing, masked, []byte{19, 135}), 4999},
		"no code":   {raw(final|closing, masked, nil), 1005},
		"then more": {join(raw(final|closing, masked, []byte{3, 232}), raw(final|closing, masked, []byte{3}), raw(final|text, masked, aPing)), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				client := w.live("alice")
				go client.sendRaw(c.sent)
				client.ends(c.code)
				synctest.Wait()
				if got := w.metric("reelay_sessions"); got != "0" {
					w.Errorf("%s sessions are left", got)
				}
			})
		})
	}
}

// TestProtocol_MessageNeverFinished begins something and keeps the connection alive otherwise.
func TestProtocol_MessageNeverFinished(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string][]byte{
		"fragment":           raw(text, masked, []byte("{")),
		"empty fragment":     raw(text, masked, nil),
		"half a payload":     head(final|text, masked, 100),
		"half a header":      {final | text},
		"half a long header": {final | text, masked | 127, 0, 0},
		"after a message":    join(raw(final|text, masked, aPing), raw(text, masked, []byte("{"))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				client := w.live("alice")
				start := time.Now()
				client.sendRaw(begun)
				if name == "after a message" {
					client.next("reelay.pong")
				}
				if strings.Contains(name, "fragment") {
					// Pongs extend the deadline of reading, and so do more fragments: neither may here.
					for range 4 {
						pass(time.Second)
						client.sendRaw(join(raw(final|pong, masked, nil), raw(continuation, masked, nil)))
					}
				}
				client.closed(3008, "frame_timeout")
				pass(2 * time.Second)
				if took := time.Since(start); took > 10*time.Second || w.metric("reelay_connections") != "0" {
					w.Errorf("after %v there are %s connections", took, w.metric("reelay_connections"))
				}
			})
		})
	}
}

// TestProtocol_SlowMessages takes as long for many messages as none may take alone.
func TestProtocol_SlowMessages(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		client := w.live("alice")
		frame := raw(final|text, masked, aPing)
		client.sendRaw(frame[:3])
		for range 8 { // at no moment is all complete (before a ping, whose pong would fall amid a message)
			pass(3 * time.Second)
			client.sendRaw(join(frame[3:], frame[:3]))
			client.next("reelay.pong")
		}
		client.sendRaw(frame[3:])
		client.next("reelay.pong")
	})
}

func TestProtocol_Flood(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string][]byte{
		"messages":      raw(final|text, masked, aPing),
		"subscriptions": raw(final|text, masked, []byte(`{"type":"subscribe","videos":["v"]}`)),
		"bad tokens":    raw(final|text, masked, []byte(`{"type":"auth","token":"x"}`)),
		"pings":         raw(final|ping, masked, []byte("x")),
		"pongs":         raw(final|pong, masked, []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				client := w.live("alice")
				answered := 0
				client.SetPongHandler(func(string) error { answered++; return nil })
				var sending sync.WaitGroup
				sending.Go(func() { client.sendRaw(bytes.Repeat(sent, 1000)) })
				got := 0
				for {
					f, open := <-client.frames
					if !open {
						break
					}
					if f.Type == "reelay.ready" {
						continue
					}
					got++
				}
				sending.Wait()
				if !websocket.IsCloseError(client.end, 1013) || !strings.HasSuffix(client.end.Error(), "rate_limited") {
					w.Errorf("the socket ended with %v, want 1013 rate_limited", client.end)
				}
				if got > 40 || answered > 40 {
					w.Errorf("%d frames and %d pings were answered, want 40 at most", got, answered)
				}
				if asked := len(w.log.asked()); asked > 40 {
					w.Errorf("the database was asked %d times, want 40 at most", asked)
				}
			})
		})
	}
}

func TestProtocol_AtTheRateAllowed(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		client := w.live("alice")
		answered := make(chan struct{}, 1000)
		client.SetPongHandler(func(string) error { answered <- struct{}{}; return nil })
		for range 300 {
			client.send(string(aPing))
			client.next("reelay.pong")
			pass(100 * time.Millisecond)
		}
		for range 300 {
			client.sendRaw(raw(final|ping, masked, []byte("x")))
			pass(100 * time.Millisecond)
			select {
			case <-answered:
			default:
				w.Fatal("a ping was not answered")
			}
		}
		client.silent()
	})
}

func TestProtocol_PingIsAnsweredWithItsData(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		client := w.live("alice")
		answers := make(chan string, 2)
		client.SetPongHandler(func(data string) error { answers <- data; return nil })
		longest := strings.Repeat("x", 125)
		client.sendRaw(join(raw(final|ping, masked, []byte(longest)), raw(final|ping, masked, nil)))
		if got := <-answers; got != longest {
			w.Errorf("got pong %q, want the ping's data", got)
		}
		if got := <-answers; got != "" {
			w.Errorf("got pong %q, want it empty", got)
		}
	})
}

func TestProtocol_FramesInError(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 6000) + strings.Repeat("]", 6000)
	frames := []struct{ sent, code, ref string }{
		{``, "invalid_frame", ""},
		{`x`, "invalid_frame", ""},
		{`null`, "invalid_frame", ""},
		{`"ping"`, "invalid_frame", ""},
		{`[{"type":"ping"}]`, "invalid_frame", ""},
		{`{}`, "invalid_frame", ""},
		{`{"ref":1}`, "invalid_frame", "1"},
		{`{"type":null}`, "invalid_frame", ""},
		{`{"type":7}`, "invalid_frame", ""},
		{`{"type":""}`, "invalid_frame", ""},
		{`{"type":"ping"`, "invalid_frame", ""},
		{`{"type":"ping"}}`, "invalid_frame", ""},
		{`{"type":"ping"} {"type":"ping"}`, "invalid_frame", ""},
		{`{"type":"ping",}`, "invalid_frame", ""},
		{`{"type":"dance","ref":"r"}`, "invalid_frame", "r"},
		{`{"type":"Ping"}`, "invalid_frame", ""},
		{`{"Type":"ping"}`, "invalid_frame", ""},
		{`{"type":"ping","type":"ping"}`, "invalid_frame", ""},
		{`{"type":"ping","extra":1,"ref":2}`, "invalid_frame", "2"},
		{`{"type":"ping","token":"x"}`, "invalid_frame", ""},
		{`{"type":"ping","videos":["v"]}`, "invalid_frame", ""},
		{`{"type":"ping","token":null}`, "invalid_frame", ""},
		{`{"type":"auth"}`, "invalid_frame", ""},
		{`{"type":"auth","token":null}`, "invalid_frame", ""},
		{`{"type":"auth","token":1}`, "invalid_frame", ""},
		{`{"type":"auth","token":["x"]}`, "invalid_frame", ""},
		{`{"type":"subscribe"}`, "invalid_frame", ""},
		{`{"type":"subscribe","videos":null}`, "invalid_frame", ""},
		{`{"type":"subscribe","videos":[]}`, "invalid_frame", ""},
		{`{"type":"subscribe","videos":"v"}`, "invalid_frame", ""},
		{`{"type":"subscribe","videos":[1]}`, "invalid_frame", ""},
		{`{"type":"subscribe","videos":["v"],"token":"x"}`, "invalid_frame", ""},
		{`{"type":"subscribe","videos":[""],"ref":3}`, "invalid_video", "3"},
		{`{"type":"subscribe","videos":["v",null]}`, "invalid_video", ""},
		{`{"type":"subscribe","videos":[` + strings.Repeat(`"v",`, 100) + `"v"],"ref":4}`, "too_many_videos", "4"},
		{`{"type":"ping","ref":"` + strings.Repeat("x", 255) + `"}`, "invalid_frame", ""},
		{`{"type":"ping","ref":` + deep + `}`, "invalid_frame", ""},
		{deep, "invalid_frame", ""},
	}
	inWorld(t, func(w *world) {
		var c *client
		for i, f := range frames {
			if i%4 == 0 { // the fifth in error ends it
				c = w.live("alice")
			}
			c.send(f.sent)
			if got := c.nextError(f.code).field("ref"); got != f.ref {
				w.Errorf("%.100s: got ref %s, want %s", f.sent, got, f.ref)
			}
		}
	})
}

func TestProtocol_FramesInErrorRepeated(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		for n := range 5 {
			c.send(fmt.Sprintf(`{"type":"dance","ref":%d}`, n))
		}
		for n := range 4 {
			if got := c.nextError("invalid_frame").field("ref"); got != fmt.Sprint(n) {
				w.Errorf("got ref %s, want %d", got, n)
			}
		}
		c.closed(1008, "invalid_frame")
	})
}

// TestProtocol_CloseFrameArrives floods by real sockets: one that is closed with something unread is reset, and what was
// sent before can be lost (not by Linux, but by others). A client that never sees 1009 would come back and do it again.
func TestProtocol_CloseFrameArrives(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent []byte
		code int
	}{
		"too big":        {raw(final|text, masked, make([]byte, 1<<20)), 1009},
		"broken":         {join(raw(final|3, masked, nil), make([]byte, 1<<20)), 1002},
		"flood":          {bytes.Repeat(raw(final|text, masked, aPing), 50_000), 1013},
		"flood of pings": {bytes.Repeat(raw(final|ping, masked, nil), 100_000), 1013},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTCP(t, func(w *world) {
				client := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
				client.readOne("reelay.ready")
				client.sendRaw(c.sent)
				go client.read()
				for f := range client.frames {
					if f.Type != "reelay.pong" {
						w.Errorf("got %s", f.raw)
					}
				}
				if !websocket.IsCloseError(client.end, c.code) {
					w.Errorf("the socket ended with %v, want %d", client.end, c.code)
				}
				if tcp, ok := client.NetConn().(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
					w.Fatal("the client cannot close its side")
				}
				if _, err := io.Copy(io.Discard, client.NetConn()); err != nil {
					w.Errorf("the server's side ended with %v, want it closed without a reset", err)
				}
			})
		})
	}
}

// TestProtocol_DeniedAreCut has a browser that is denied and does not go: neither silence nor pongs keep it.
func TestProtocol_DeniedAreCut(t *testing.T) {
	t.Parallel()
	for _, pongs := range []bool{false, true} {
		t.Run(fmt.Sprint("pongs ", pongs), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c := w.dialUnread(handshake{token: "x.y.z", origin: page})
				c.SetCloseHandler(func(int, string) error { return nil })
				go c.read()
				c.closed(3000, "invalid_token")
				if pongs {
					for range 3 {
						c.sendRaw(raw(final|pong, masked, nil))
						pass(500 * time.Millisecond)
					}
				}
				// It is not let in later, either.
				c.sendRaw(raw(final|text, masked, []byte(`{"type":"auth","token":"`+w.token("alice")+`"}`)))
				c.sendRaw(raw(final|3, masked, nil)) // which it would be closed for, were it not already
				pass(2 * time.Second)
				if got := w.metric("reelay_connections"); got != "0" {
					w.Errorf("%s connections are left", got)
				}
				if got := w.metric(`reelay_closes_total{code="protocol_error"}`); got != "0" {
					w.Errorf("it was closed twice")
				}
				if got := w.log.asked(); len(got) > 0 {
					w.Errorf("the database was asked for %v", got)
				}
			})
		})
	}
}

// TestProtocol_Silence has clients that answer no ping, and clients that do nothing else.
func TestProtocol_Silence(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		dead := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		dead.SetPingHandler(func(string) error { return nil })
		go dead.read()
		dead.next("reelay.ready")
		alive := w.live("alice")
		pass(59 * time.Second)
		if got := w.metric("reelay_connections"); got != "2" {
			w.Errorf("%s connections are left after 59 s, want 2", got)
		}
		pass(2 * time.Second)
		if got := w.metric("reelay_connections"); got != "1" {
			w.Errorf("%s connections are left after 61 s, want 1", got)
		}
		pass(50 * time.Minute)
		alive.silent()
	})
}
