package api_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/hub"
)

// TestSlow_NeverReads has a client that takes nothing, beside one of the same user that does.
func TestSlow_NeverReads(t *testing.T) {
	t.Parallel()
	const events = 10_000
	inWorld(t, func(w *world) {
		reader := w.live("alice")
		stuck := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		cursor := stuck.readOne("reelay.ready").Cursor
		start := time.Now()
		for range events {
			w.publish(updated("alice", "v", `{}`))
			reader.next("video.updated")
			synctest.Wait()
		}
		if took := time.Since(start); took != 0 {
			w.Errorf("publishing waited for %v", took)
		}
		if got, want := w.metric("reelay_events_delivered_total"), fmt.Sprint(events+1); got != want {
			w.Errorf("%s events were handed out, want %s: those of the reader and the first", got, want)
		}
		pass(8*time.Second - time.Millisecond)
		if got := w.metric("reelay_connections"); got != "2" {
			w.Errorf("there are %s connections, want 2", got)
		}
		pass(time.Millisecond)
		if got := w.metric("reelay_connections"); got != "1" {
			w.Errorf("there are %s connections after 8 s, want 1", got)
		}
		if got := w.metric(`reelay_closes_total{code="slow_consumer"}`); got != "1" {
			w.Errorf("%s slow consumers are counted, want 1", got)
		}
		again := w.dial(handshake{user: "alice", query: after(cursor)})
		again.next("reelay.ready")
		for n := range events {
			if got, want := again.next("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", n+1); got != want {
				w.Fatalf("got event %s, want %s", got, want)
			}
		}
		reader.silent()
	})
}

// TestSlow_ReadsAgain has a client stall for longer than it takes to be thought slow, and shorter than to be cut.
func TestSlow_ReadsAgain(t *testing.T) {
	t.Parallel()
	for stalled, told := range map[time.Duration]bool{4 * time.Second: false, 6 * time.Second: true} {
		t.Run(stalled.String(), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
				c.readOne("reelay.ready")
				for range 10 {
					w.publish(updated("alice", "v", `{}`))
					synctest.Wait() // so that the first alone is in flight
				}
				pass(stalled)
				go c.read()
				if !told {
					for range 10 {
						c.next("video.updated")
					}
					c.silent()
					return
				}
				cursor := c.next("video.updated").ID
				c.closed(1013, "slow_consumer")
				again := w.dial(handshake{user: "alice", query: after(cursor)})
				again.next("reelay.ready")
				for n := 2; n <= 10; n++ {
					if got, want := again.next("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", n); got != want {
						w.Errorf("got event %s, want %s", got, want)
					}
				}
			})
		})
	}
}

// TestSlow_LargeFrameOnASlowLink brings one megabyte to a client that takes 8 KiB a second. Cut off amid the frame, it
// would come back with its cursor, get the same frame, and be cut off again, for ever.
func TestSlow_LargeFrameOnASlowLink(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		link := &slowLink{}
		fast := w.dialer
		w.dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := fast(ctx, network, address)
			link.Conn = conn
			return link, err
		}
		c := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		c.readOne("reelay.ready")
		link.pause = 500 * time.Millisecond
		data := `{"text":"` + strings.Repeat("x", 1<<20) + `"}`
		w.publish(updated("alice", "v", data))
		start := time.Now()
		if f := c.readOne("video.updated"); string(f.Data) != data {
			w.Errorf("got %d bytes, want %d", len(f.Data), len(data))
		}
		if took := time.Since(start); took < 2*time.Minute {
			w.Errorf("the link was too fast for this test: %v", took)
		}
		go c.read()
		c.closed(1013, "slow_consumer")
	})
}

// slowLink brings 4 KiB at a time, after a pause.
type slowLink struct {
	net.Conn

	pause time.Duration
}

func (l *slowLink) Read(p []byte) (int, error) {
	<-time.After(l.pause)
	return l.Conn.Read(p[:min(len(p), 4<<10)])
}

// TestSlow_AsksAndDoesNotRead has a client fill the queue of answers.
func TestSlow_AsksAndDoesNotRead(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		c.readOne("reelay.ready")
		start := time.Now()
		for w.metric("reelay_connections") == "1" {
			c.sendRaw(raw(final|text, masked, aPing))
			pass(100 * time.Millisecond)
			if time.Since(start) > patience {
				w.Fatal("the client goes on")
			}
		}
		if took := time.Since(start); took > 9*time.Second {
			w.Errorf("the client was cut after %v, want it before its write times out", took)
		}
		if got := w.metric(`reelay_closes_total{code="slow_consumer"}`); got != "1" {
			w.Errorf("%s slow consumers are counted, want 1", got)
		}
	})
}

// TestSlow_KernelHoldsLittle has a client that takes nothing on a real socket, where the kernel takes for it at first.
func TestSlow_KernelHoldsLittle(t *testing.T) {
	t.Parallel()
	const events, size = 1000, 8 << 10
	onTCP(t, func(w *world) {
		reader := w.live("alice")
		stuck := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		if tcp, ok := stuck.NetConn().(*net.TCPConn); !ok || tcp.SetReadBuffer(4<<10) != nil {
			w.Fatal("the client has no TCP connection")
		}
		data := `{"text":"` + strings.Repeat("x", size) + `"}`
		for range events {
			w.publish(updated("alice", "v", data))
			reader.next("video.updated")
		}
		var handedOut int
		if _, err := fmt.Sscan(w.metric("reelay_events_delivered_total"), &handedOut); err != nil {
			w.Fatalf("the metric: %v", err)
		}
		if held := (handedOut - events) * size; held > 1<<20 {
			w.Errorf("%d bytes of %d were handed out to a client that reads nothing", held, events*size)
		}
	})
}

// TestSlow_MoreThanWriters has more clients take nothing than there are writers, on real sockets, of each kind.
func TestSlow_MoreThanWriters(t *testing.T) {
	t.Parallel()
	const events, size = 100, 8 << 10
	onTCP(t, func(w *world) {
		reader := w.live("alice")
		for range 2 * runtime.GOMAXPROCS(0) {
			stuck := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
			stuck.readOne("reelay.ready")
			stream, _ := w.rawStream("Authorization: Bearer " + w.token("alice"))
			for _, conn := range []net.Conn{stuck.NetConn(), stream} {
				if tcp, ok := conn.(*net.TCPConn); !ok || tcp.SetReadBuffer(4<<10) != nil {
					w.Fatal("the client has no TCP connection")
				}
			}
		}
		data := `{"text":"` + strings.Repeat("x", size) + `"}`
		for range events {
			w.publish(updated("alice", "v", data))
			reader.next("video.updated")
		}
		// Whoever waited for the stuck ones would have got on when they were cut.
		if got, want := w.metric("reelay_connections"), fmt.Sprint(1+4*runtime.GOMAXPROCS(0)); got != want {
			w.Errorf("there are %s connections, want %s: none is cut yet", got, want)
		}
	})
}

// TestSlow_Burst sends very many events to sessions of different speeds. Each gets each of them once, in order.
func TestSlow_Burst(t *testing.T) {
	t.Parallel()
	events := 100_000
	if testing.Short() {
		events = 5_000
	}
	inWorld(t, func(w *world) {
		var receiving sync.WaitGroup
		for _, speed := range []struct {
			rest  time.Duration // a pause after some frames
			every int
		}{{0, 1}, {time.Millisecond, 100}, {3 * time.Second, 40_000}} {
			c := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
			c.readOne("reelay.ready")
			receiving.Go(func() {
				for n := 1; n <= events; n++ {
					_, message, err := c.ReadMessage()
					if err != nil {
						w.Errorf("at event %d: %v", n, err)
						return
					}
					// Parsing it all would take longer than all the rest.
					if want := fmt.Sprintf(`{"specversion":"1.0","id":"k3f9a2bq.%d",`, n); !strings.HasPrefix(string(message), want) {
						w.Errorf("got %s, want event %d", message, n)
						return
					}
					if n%speed.every == 0 && speed.rest > 0 {
						<-time.After(speed.rest)
					}
				}
			})
		}
		batch := make([]*hub.Event, 0, 100)
		for n := range events {
			if batch = append(batch, updated("alice", "v", `{}`)); len(batch) == cap(batch) || n == events-1 {
				w.publish(batch...)
				batch = batch[:0]
			}
		}
		receiving.Wait()
	})
}
