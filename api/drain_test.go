package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api"
)

func TestDrain_TellsAll(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		clients := make([]*client, 0, 40)
		for n := range 30 {
			clients = append(clients, w.live(fmt.Sprint("user", n)))
		}
		for range 10 {
			clients = append(clients, w.dial(handshake{origin: page})) // no token yet
		}
		pass(time.Second)
		start := time.Now()
		w.drain()
		synctest.Wait()
		if _, err := w.dialer(context.Background(), "", ""); !errors.Is(err, net.ErrClosed) {
			w.Errorf("connecting while it drains: got %v, want it closed", err)
		}
		var mu sync.Mutex
		ends := make(map[time.Duration]int)
		var closing sync.WaitGroup
		for _, c := range clients {
			closing.Go(func() {
				c.closed(1012, "restart")
				mu.Lock()
				defer mu.Unlock()
				ends[time.Since(start)]++
			})
		}
		closing.Wait()
		w.stop()
		if took := time.Since(start); took > 3*time.Second {
			w.Errorf("draining took %v, want some 2 s", took)
		}
		if len(ends) < 10 {
			w.Errorf("the clients were sent away at once: %v", ends)
		}
		if got := w.metric("reelay_sessions"); got != "0" {
			w.Errorf("%s sessions are left", got)
		}
	})
}

func TestDrain_NobodyThere(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		start := time.Now()
		w.stop()
		if took := time.Since(start); took != 0 {
			w.Errorf("draining took %v", took)
		}
	})
}

// TestDrain_ClientsThatDoNotGo has clients that take nothing, that answer no close frame, that send on, and that have a
// message half sent.
func TestDrain_ClientsThatDoNotGo(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		stuck := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		stuck.readOne("reelay.ready")
		for range 10 {
			w.publish(updated("alice", "v", `{}`))
		}
		mute := w.dialUnread(handshake{user: "bob", query: "snapshot=0"})
		mute.SetCloseHandler(func(int, string) error { return nil })
		go mute.read()
		mute.next("reelay.ready")
		half := w.dialUnread(handshake{user: "carol", query: "snapshot=0"})
		half.SetCloseHandler(func(int, string) error { return nil })
		go half.read()
		half.next("reelay.ready")
		half.sendRaw(raw(text, masked, nil))
		start := time.Now()
		var sending sync.WaitGroup
		sending.Go(func() {
			for range 100 {
				mute.sendRaw(raw(final|pong, masked, nil))
				<-time.After(100 * time.Millisecond)
			}
		})
		w.stop()
		if took := time.Since(start); took > 5*time.Second {
			w.Errorf("draining took %v, want 4 s at most", took)
		}
		if got := w.metric("reelay_connections"); got != "0" {
			w.Errorf("Run returned with %s connections left", got)
		}
		mute.closed(1012, "restart")
		half.closed(1012, "restart")
		sending.Wait()
	})
}

// TestDrain_BetweenHandshakeAndSocket has a client that is let in and has not been told so when the server drains.
func TestDrain_BetweenHandshakeAndSocket(t *testing.T) {
	t.Parallel()
	for wait, told := range map[time.Duration]bool{time.Second: true, time.Minute: false} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				conn, err := w.dialer(context.Background(), "", "")
				if err != nil {
					w.Fatalf("connect: %v", err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, upgradeRequest("/events", "Authorization: Bearer "+w.token("alice"))); err != nil {
					w.Fatalf("send a request: %v", err)
				}
				synctest.Wait() // until the server writes its answer, which nobody takes
				w.drain()
				pass(wait)
				got, err := io.ReadAll(conn)
				if err != nil {
					w.Fatalf("read: %v", err)
				}
				if closed := "\x88\x09\x03\xf4restart"; told != strings.HasSuffix(string(got), "\r\n\r\n"+closed) {
					w.Errorf("got %q", got)
				}
			})
		})
	}
}

// TestDrain_WhileTheLogIsAway has connections in the middle of what takes long.
func TestDrain_WhileTheLogIsAway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.mayErr = true
		live := w.live("alice")
		waiting := w.dial(handshake{origin: page})
		lost := w.live("bob")
		w.log.hold() // for ever
		w.log.rename("other")
		pass(time.Second) // bob's session needs a new place
		live.send(`{"type":"subscribe","videos":["v"]}`)
		waiting.auth(w.token("alice"))
		var handshakes sync.WaitGroup
		handshakes.Go(func() {
			_, refusal := w.try(handshake{user: "alice"})
			if refusal == nil {
				w.Error("a client was let in")
				return
			}
			refusal.problem(w.T, 503, "restart")
		})
		synctest.Wait()
		start := time.Now()
		w.stop()
		if took := time.Since(start); took > 3*time.Second {
			w.Errorf("draining took %v, want some 2 s", took)
		}
		handshakes.Wait()
		for _, c := range []*client{live, waiting, lost} {
			for f := range c.frames {
				if f.Type != "reelay.reset" && f.Type != "reelay.error" {
					w.Errorf("got %s", f.raw)
				}
			}
			if !websocket.IsCloseError(c.end, 1012) {
				w.Errorf("the socket ended with %v, want 1012", c.end)
			}
		}
	})
}

// TestDrain_LosesNothing drains a replica under load: what its clients have not got, another one has for them.
func TestDrain_LosesNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		clients := make([]*client, 0, 10)
		for range cap(clients) {
			clients = append(clients, w.live("alice"))
		}
		last := 0
		w.drain()
		for range 300 {
			last++
			w.publish(updated("alice", "v", `{}`))
			pass(10 * time.Millisecond)
		}
		w.stop()

		second := newListener()
		w.server.Listener, w.dialer = second, second.dial
		w.ended = make(chan error, 1)
		ctx, drain := context.WithCancel(context.Background())
		w.drain = drain
		server := api.NewServer(w.server)
		go func() { w.ended <- server.Run(ctx) }()
		for _, c := range clients {
			seen, cursor := 0, "k3f9a2bq.0"
			count := func(c *client, upTo int) {
				for f := range c.frames {
					seen++
					if cursor = f.ID; cursor != fmt.Sprintf("k3f9a2bq.%d", seen) {
						w.Fatalf("got %s, want event %d", f.raw, seen)
					}
					if seen == upTo {
						return
					}
				}
			}
			count(c, 0)
			if seen == last {
				w.Fatal("nothing was left to be resumed")
			}
			again := w.dial(handshake{user: "alice", query: after(cursor)})
			again.next("reelay.ready")
			count(again, last)
			again.silent()
		}
	})
}

func TestDrain_ListenerFails(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		_ = w.server.Listener.Close()
		c.closed(1012, "restart")
		err := <-w.ended
		if !errors.Is(err, net.ErrClosed) {
			w.Errorf("Run returned %v, want it to say that the listener failed", err)
		}
		if got := w.metric("reelay_connections"); got != "0" {
			w.Errorf("%s connections are left", got)
		}
		w.ended <- nil
	})
}

// TestDrain_ClientLeavesAmidReplacement has a client go while its session gets a new place.
func TestDrain_ClientLeavesAmidReplacement(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		release := w.log.hold()
		w.log.rename("other")
		pass(time.Second)
		_ = c.Close()
		pass(time.Millisecond)
		if got := w.metric("reelay_sessions"); got != "0" {
			w.Errorf("%s sessions are left", got)
		}
		release()
		pass(time.Second)
		w.stop()
	})
}

// TestRaces does everything at once, for the race detector: it is right if nothing panics, hangs or is left.
func TestRaces(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("user0", "v", `{}`)
		stop := make(chan struct{})
		var working sync.WaitGroup
		again := func(work func(n int)) {
			working.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
						work(n)
					}
				}
			})
		}
		for user := range 4 {
			name := fmt.Sprint("user", user)
			again(func(int) {
				w.publish(updated(ownerOf(name), "v", `{}`))
				<-time.After(7 * time.Millisecond)
			})
			for kind := range 4 {
				again(func(n int) { w.visit(name, kind, n) })
			}
		}
		again(func(n int) {
			<-time.After(3 * time.Second)
			w.log.rename(fmt.Sprint("log", n))
		})
		pass(20 * time.Second)
		w.drain()
		pass(time.Second)
		close(stop)
		w.stop()
		working.Wait()
		pass(time.Second)
		for _, name := range []string{"reelay_connections", "reelay_sessions"} {
			if got := w.metric(name); got != "0" {
				w.Errorf("%s is %s, want 0", name, got)
			}
		}
	})
}

// visit is the life of a client of some kind; the n-th of them. The server may drain meanwhile.
func (w *world) visit(user string, kind, n int) {
	pause := time.Duration(n%13) * 10 * time.Millisecond
	defer func() { <-time.After(pause + time.Millisecond) }()
	token, err := w.auth.Mint(user, time.Minute)
	if err != nil {
		w.Errorf("mint a token: %v", err)
		return
	}
	header := http.Header{"Origin": {page}}
	if kind%2 == 0 {
		header.Set("Authorization", "Bearer "+token)
	}
	dialer := websocket.Dialer{NetDialContext: w.dialer}
	socket, response, err := dialer.DialContext(context.Background(), "ws://reelay.test/events", header)
	if err != nil {
		return // it drains
	}
	_ = response.Body.Close()
	var reading sync.WaitGroup
	reading.Go(func() {
		for kind != 3 { // which takes nothing
			if _, _, err := socket.ReadMessage(); err != nil {
				return
			}
		}
	})
	for _, message := range []string{
		`{"type":"auth","token":"` + token + `"}`, `{"type":"subscribe","videos":["v","w"]}`, `{"type":"ping"}`, `{}`,
		`{"type":"unsubscribe","videos":["v"]}`,
	} {
		if socket.WriteMessage(websocket.TextMessage, []byte(message)) != nil {
			break
		}
		<-time.After(pause)
	}
	if n%2 == 0 {
		_ = socket.WriteControl(websocket.CloseMessage, nil, time.Now().Add(time.Second))
	}
	_ = socket.Close()
	reading.Wait()
}
