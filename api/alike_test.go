package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/api"
)

// What follows is the one table of what must be the same by whatever way a client follows its events.

func TestAlike_Refusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handshake

		status int
		code   string
	}{
		"no credential":        {handshake{}, 401, "unauthorized"},
		"bad token":            {handshake{token: "GOODx"}, 401, "invalid_token"},
		"expired token":        {handshake{token: "OLD"}, 401, "token_expired"},
		"two tokens":           {handshake{token: "GOOD", header: http.Header{"Sec-Websocket-Protocol": {"reelay.v1, reelay.bearer.OLD"}}}, 400, "ambiguous_credentials"},
		"foreign origin":       {handshake{token: "GOOD", origin: "https://evil.example"}, 403, "origin_not_allowed"},
		"token in the URL":     {handshake{token: "GOOD", query: "access_token=x"}, 400, "token_in_url"},
		"malformed cursor":     {handshake{token: "GOOD", query: "after=k3f9a2bq.-1"}, 400, "invalid_cursor"},
		"cursor of 2^64":       {handshake{token: "GOOD", query: "after=k3f9a2bq.18446744073709551616"}, 400, "invalid_cursor"},
		"cursor with CRLF":     {handshake{token: "GOOD", query: "after=k3f9a2bq.1%0d%0aX:y"}, 400, "invalid_cursor"},
		"two cursors":          {handshake{token: "GOOD", query: "after=k3f9a2bq.1&after=k3f9a2bq.2"}, 400, "invalid_parameter"},
		"snapshot neither":     {handshake{token: "GOOD", query: "snapshot=2"}, 400, "invalid_parameter"},
		"limit of none":        {handshake{token: "GOOD", query: "limit=0"}, 400, "invalid_parameter"},
		"limit too large":      {handshake{token: "GOOD", query: "limit=1001"}, 400, "invalid_parameter"},
		"limit no number":      {handshake{token: "GOOD", query: "limit=+7"}, 400, "invalid_parameter"},
		"two limits":           {handshake{token: "GOOD", query: "limit=1&limit=2"}, 400, "invalid_parameter"},
		"wait negative":        {handshake{token: "GOOD", query: "wait=-1"}, 400, "invalid_parameter"},
		"wait too long":        {handshake{token: "GOOD", query: "wait=61"}, 400, "invalid_parameter"},
		"wait of a part":       {handshake{token: "GOOD", query: "wait=0.5"}, 400, "invalid_parameter"},
		"video that cannot be": {handshake{token: "GOOD", query: "video=%00"}, 400, "invalid_parameter"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(w *world, carrier carrier) {
				h := c.handshake
				old := w.tokenFor("alice", time.Second)
				pass(time.Minute)
				tokens := strings.NewReplacer("GOOD", w.token("alice"), "OLD", old)
				h.token = tokens.Replace(h.token)
				if lines := h.header.Values("Sec-WebSocket-Protocol"); len(lines) > 0 {
					h.header = http.Header{"Sec-Websocket-Protocol": {tokens.Replace(lines[0])}}
				}
				f, refusal := carrier.open(w, h)
				if f != nil {
					f.leave()
					w.Fatal("a client was let in")
				}
				refusal.problem(w.T, c.status, c.code)
				if authenticate := refusal.Header.Get("WWW-Authenticate"); (c.status == 401) != (authenticate != "") {
					w.Errorf("got WWW-Authenticate %q with %d", authenticate, c.status)
				}
			})
		})
	}
}

func TestAlike_EventsAsTheyCome(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		socket := w.live("alice")
		f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0"})
		f.ready(false)
		for n := range 300 {
			w.publish(updated("bob", "w", `{"secret":true}`), updated("alice", "v", fmt.Sprintf(`{"n":%d}`, n)))
			if n%7 == 0 {
				pass(time.Second)
			}
			if got, want := f.next("video.updated"), socket.next("video.updated"); got.raw != want.raw {
				w.Fatalf("got %s, want %s", got.raw, want.raw)
			}
		}
		f.silent()
	})
}

func TestAlike_SnapshotThenEvents(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		w.log.row("alice", "a", `{"processing_status":"ready"}`)
		w.log.row("bob", "b", `{}`)
		w.publish(updated("alice", "a", `{}`))
		f := w.follow(carrier, handshake{user: "alice"})
		f.ready(false)
		snapshot := f.next("reelay.snapshot")
		if got, want := snapshot.field("videos"), `[{"id":"a","processing_status":"ready"}]`; got != want || snapshot.Cursor != "k3f9a2bq.1" {
			w.Errorf("got videos %s and cursor %s, want %s and k3f9a2bq.1", got, snapshot.Cursor, want)
		}
		w.publish(updated("alice", "a", `{}`))
		f.events(1, 1)
		f.silent()
	})
}

func TestAlike_Filter(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		w.log.row("alice", "a", `{}`)
		w.log.row("alice", "b", `{}`)
		w.log.row("bob", "foreign", `{}`)
		f := w.follow(carrier, handshake{user: "alice", query: "video=a&video=foreign&video=nowhere"})
		f.ready(false)
		if got, want := f.next("reelay.subscribed").field("unknown"), `["foreign","nowhere"]`; got != want {
			w.Errorf("unknown are %s, want %s", got, want)
		}
		if got, want := f.next("reelay.snapshot").field("videos"), `[{"id":"a"}]`; got != want {
			w.Errorf("got videos %s, want %s", got, want)
		}
		synctest.Wait()
		for range 3 {
			w.publish(updated("alice", "b", `{}`), updated("bob", "foreign", `{}`))
		}
		w.publish(updated("alice", "a", `{}`))
		for {
			got := f.next2("video.updated", "reelay.subscribed")
			if got.Type == "reelay.subscribed" { // each page says so
				continue
			}
			if got.Subject != "a" || got.ID != "k3f9a2bq.4" {
				w.Errorf("got %s, want the event of a", got.raw)
			}
			break
		}
	})
}

// next2 takes the next frame, which is of one of two types.
func (f *follower) next2(kinds ...string) frame {
	f.w.Helper()
	select {
	case got, open := <-f.frames:
		if !open || !slices.Contains(kinds, got.Type) {
			f.w.Fatalf("waiting for %v: got %s (open: %v, end: %s)", kinds, got.raw, open, f.end)
		}
		return got
	case <-time.After(2 * time.Minute):
		f.w.Fatalf("waiting for %v: nothing came", kinds)
	}
	return frame{}
}

func TestAlike_Resumes(t *testing.T) {
	t.Parallel()
	for _, after := range []int{0, 1, 128, 129, 299, 300} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			overAll(t, func(w *world, carrier carrier) {
				for range 300 {
					w.publish(updated("alice", "v", `{}`), updated("bob", "v", `{}`))
				}
				f := w.follow(carrier, handshake{user: "alice", query: fmt.Sprintf("after=k3f9a2bq.%d", after)})
				f.ready(true)
				f.events(after, 300-after)
				f.silent()
				w.publish(updated("alice", "v", `{}`))
				f.events(300, 1)
			})
		})
	}
}

func TestAlike_Reset(t *testing.T) {
	t.Parallel()
	for reason, cursor := range map[string]string{"too_old": "k3f9a2bq.3", "other_log": "other.7", "future": "k3f9a2bq.11"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(w *world, carrier carrier) {
				w.log.row("alice", "v", `{}`)
				for range 10 {
					w.publish(updated("alice", "v", `{}`))
				}
				w.log.trim("alice", 5)
				f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0&" + after(cursor)})
				f.ready(false)
				if got := f.next("reelay.reset").field("reason"); got != reason {
					w.Errorf("the reason is %s, want %s", got, reason)
				}
				if got := f.next("reelay.snapshot").Cursor; got != "k3f9a2bq.10" {
					w.Errorf("the snapshot's cursor is %s, want that of the last event", got)
				}
				w.publish(updated("alice", "v", `{}`))
				f.events(10, 1)
			})
		})
	}
}

// TestAlike_LosesItsPlace changes the log under a client that is there.
func TestAlike_LosesItsPlace(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		w.log.row("alice", "v", `{}`)
		f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0"})
		f.ready(false)
		synctest.Wait()
		w.log.rename("other")
		if got := f.next("reelay.reset").field("reason"); got != "other_log" {
			w.Errorf("the reason is %s, want other_log", got)
		}
		if got := f.next("reelay.snapshot").Cursor; got != "other.0" {
			w.Errorf("the snapshot's cursor is %s, want other.0", got)
		}
	})
}

func TestAlike_TokenExpires(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		start := time.Now()
		f := w.follow(carrier, handshake{token: w.tokenFor("alice", 100*time.Second), query: "snapshot=0"})
		f.ready(false)
		if carrier.stays {
			f.next("reelay.expiring")
			if took := time.Since(start); took != 40*time.Second {
				w.Errorf("it is told after %v, want 60 s before its token expires", took)
			}
		}
		pass(129*time.Second - time.Since(start))
		w.publish(updated("alice", "v", `{}`))
		f.events(0, 1)
		f.ended("token_expired")
		if took := time.Since(start); took != 130*time.Second {
			w.Errorf("it was sent away after %v, want it when the leeway of 30 s ends", took)
		}
		w.publish(updated("alice", "v", `{}`))
		synctest.Wait()
		for name, want := range map[string]string{"reelay_connections": "0", "reelay_sessions": "0", "reelay_polls": "0"} {
			if got := w.metric(name); got != want {
				w.Errorf("%s is %s, want %s", name, got, want)
			}
		}
	})
}

// TestAlike_Drains drains a server under load; what its client has not got, another server has for it.
func TestAlike_Drains(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0"})
		f.ready(false)
		synctest.Wait()
		start := time.Now()
		w.drain()
		for range 300 {
			w.publish(updated("alice", "v", `{}`))
			pass(10 * time.Millisecond)
		}
		w.stop()
		if took := time.Since(start); took > 5*time.Second {
			w.Errorf("draining took %v", took)
		}
		seen := 0
		for len(f.frames) > 0 && f.end != "x" {
			got, open := <-f.frames
			if !open || got.Type == "reelay.error" {
				break
			}
			if seen++; got.ID != fmt.Sprintf("k3f9a2bq.%d", seen) {
				w.Fatalf("got %s, want event %d", got.raw, seen)
			}
		}
		f.ended("restart")
		if seen == 300 {
			w.Fatal("nothing was left to be resumed")
		}
		w.again()
		f = w.follow(carrier, handshake{user: "alice", query: fmt.Sprintf("after=k3f9a2bq.%d", seen)})
		f.ready(true)
		f.events(seen, 300-seen)
		f.silent()
	})
}

// TestAlike_DrainTellsEach has clients whose turn comes later than others': they stay until then, and are told.
func TestAlike_DrainTellsEach(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		var clients []*follower
		for n := range 40 {
			f := w.follow(carrier, handshake{user: fmt.Sprint("user", n%3), query: "snapshot=0"})
			f.ready(false)
			clients = append(clients, f)
		}
		synctest.Wait()
		w.drain()
		for _, f := range clients {
			f.ended("restart")
		}
	})
}

// again starts another server, in place of one that has drained.
func (w *world) again() {
	memory := newListener()
	w.server.Listener, w.dialer = memory, memory.dial
	w.ended = make(chan error, 1)
	ctx, drain := context.WithCancel(context.Background())
	w.drain = drain
	server := api.NewServer(w.server)
	go func() { w.ended <- server.Run(ctx) }()
}

// TestAlike_NeverReads has a client that takes nothing, beside one of the same user that does.
func TestAlike_NeverReads(t *testing.T) {
	t.Parallel()
	const events = 5000
	overAll(t, func(w *world, carrier carrier) {
		reader := w.live("alice")
		stuck := w.followUnread(carrier, handshake{user: "alice", query: "snapshot=0"})
		start := time.Now()
		for range events {
			w.publish(updated("alice", "v", `{}`))
			reader.next("video.updated")
		}
		if took := time.Since(start); took != 0 {
			w.Errorf("publishing waited for %v", took)
		}
		pass(10 * time.Second)
		if got := w.metric("reelay_connections"); got != "1" {
			w.Errorf("there are %s connections after 10 s, want the reader's", got)
		}
		if carrier.stays {
			if got := w.metric(`reelay_closes_total{code="slow_consumer"}`); got != "1" {
				w.Errorf("%s slow consumers are counted, want 1", got)
			}
		}
		var delivered int
		if _, err := fmt.Sscan(w.metric("reelay_events_delivered_total"), &delivered); err != nil || delivered-events > 1000 {
			w.Errorf("%d events were handed out to a client that reads nothing (%v)", delivered-events, err)
		}
		stuck.leave()
		again := w.follow(carrier, handshake{user: "alice", query: "after=k3f9a2bq.0"})
		again.ready(true)
		again.events(0, events)
		reader.silent()
	})
}

// TestAlike_ReadsAgain has a client stall for longer than it takes to be thought slow, and shorter than to be cut.
func TestAlike_ReadsAgain(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		if !carrier.stays {
			return // a poll that is answered has nothing to be slow with
		}
		f := w.followUnread(carrier, handshake{user: "alice", query: "snapshot=0"})
		data := `{"text":"` + strings.Repeat("x", 256<<10) + `"}` // more than HTTP/2's window
		for range 10 {
			w.publish(updated("alice", "v", data))
		}
		pass(6 * time.Second)
		go f.read()
		f.ready(false)
		seen := 0
		for {
			if len(f.frames) == 0 {
				synctest.Wait()
				if len(f.frames) == 0 {
					break // closed: a WebSocket has no such frame
				}
			}
			if f.next2("video.updated", "reelay.error").Type == "reelay.error" {
				break
			}
			if seen++; seen == 10 {
				w.Fatal("a slow client was not sent away")
			}
		}
		f.ended("slow_consumer")
		again := w.follow(carrier, handshake{user: "alice", query: fmt.Sprintf("after=k3f9a2bq.%d", seen)})
		again.ready(true)
		again.events(seen, 10-seen)
	})
}

func TestAlike_LogIsAway(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		w.mayErr = true
		f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0"})
		f.ready(false)
		synctest.Wait()
		w.log.fail(errAway)
		pass(30 * time.Second)
		if carrier.stays {
			if got := f.next("reelay.error").field("code"); got != "unavailable" {
				w.Errorf("it is told %s, want unavailable", got)
			}
		}
		_, refusal := carrier.open(w, handshake{user: "alice"})
		if refusal == nil {
			w.Fatal("a client was let in")
		}
		refusal.problem(w.T, http.StatusServiceUnavailable, "unavailable")
		if got := refusal.Header.Get("Retry-After"); got != "2" {
			w.Errorf("got Retry-After %q, want 2", got)
		}
		f.silent()
		w.log.fail(nil)
		if carrier.stays {
			if got := f.next("reelay.error").field("code"); got != "available" {
				w.Errorf("it is told %s, want available", got)
			}
		}
		w.publish(updated("alice", "v", `{}`))
		f.events(0, 1)
	})
}

func TestAlike_ClientLeaves(t *testing.T) {
	t.Parallel()
	overAll(t, func(w *world, carrier carrier) {
		f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0"})
		f.ready(false)
		pass(time.Second)
		if got := w.metric("reelay_sessions"); got != "1" {
			w.Fatalf("there are %s sessions, want 1", got)
		}
		f.leave()
		pass(time.Second)
		for _, name := range []string{"reelay_connections", "reelay_sessions", "reelay_polls"} {
			if got := w.metric(name); got != "0" {
				w.Errorf("%s is %s, want 0", name, got)
			}
		}
	})
}

// TestAlike_AnyPayload has payloads that could be taken for the end of what carries them.
func TestAlike_AnyPayload(t *testing.T) {
	t.Parallel()
	payloads := []string{
		"\n\ndata: {}\n\n", "\r\rid: k3f9a2bq.9\r\r", "\r\n\r\n:\r\n", "\u2028\u2029\u0085", "\x00", "\ufeff", "0\r\n\r\n",
		strings.Repeat("y", 8001), strings.Repeat("\n", 1<<20),
	}
	overAll(t, func(w *world, carrier carrier) {
		f := w.follow(carrier, handshake{user: "alice", query: "snapshot=0"})
		f.ready(false)
		synctest.Wait()
		for n, text := range payloads {
			data, err := json.Marshal(map[string]string{"text": text})
			if err != nil {
				w.Fatalf("encode: %v", err)
			}
			// Newlines of all kinds between tokens, too, which JSON allows.
			w.publish(updated("alice", "v", "{\r\n \r\n\r"+string(data[1:])))
			got := f.next("video.updated")
			var value struct{ Text string }
			unmarshal(w.T, got.Data, &value)
			if value.Text != text || got.ID != fmt.Sprintf("k3f9a2bq.%d", n+1) {
				w.Errorf("payload %d came as %.100q with id %s", n, value.Text, got.ID)
			}
		}
		f.silent()
	})
}
