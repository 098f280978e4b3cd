package api_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/hub"
)

// A connection in memory holds nothing back, and whoever reads it gets what one write wrote, and no more. So a client that
// reads with room enough sees what the gateway gives to the system at once.

// written returns what one write of the gateway wrote.
func (w *world) written(conn net.Conn) string {
	w.Helper()
	synctest.Wait() // the gateway waits in its write
	buffer := make([]byte, 1<<20)
	n, err := conn.Read(buffer)
	if err != nil {
		w.Fatalf("read what was written: %v", err)
	}
	return string(buffer[:n])
}

// onUnread runs a test for each way of writing events, with the connection of one user who reads nothing from here on.
func onUnread(t *testing.T, test func(*world, net.Conn)) {
	t.Helper()
	for name, open := range map[string]func(*world) net.Conn{
		"WebSocket": func(w *world) net.Conn {
			c := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
			c.readOne("reelay.ready")
			return c.NetConn()
		},
		"event stream": func(w *world) net.Conn {
			stream, reader := w.rawStream("Authorization: Bearer " + w.token("alice"))
			w.readHead(reader)
			for range 2 { // when to come back, and ready
				if _, err := readChunk(reader); err != nil {
					w.Fatalf("read a chunk: %v", err)
				}
			}
			return stream
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) { test(w, open(w)) })
		})
	}
}

// ids returns the ids of the events in what was written, in order.
func ids(written string) (all []string) {
	for _, part := range strings.Split(written, `"id":"k3f9a2bq.`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		all = append(all, id)
	}
	return all
}

// TestLoad_ManyAtOnce has events come while a client takes its time over the first: they are written at once then.
func TestLoad_ManyAtOnce(t *testing.T) {
	t.Parallel()
	onUnread(t, func(w *world, conn net.Conn) {
		w.publish(updated("alice", "v", `{}`))
		synctest.Wait()
		var want []string
		for n := range 20 {
			w.publish(updated("alice", "v", `{}`))
			want = append(want, strconv.Itoa(n+2))
		}
		if got := ids(w.written(conn)); !slices.Equal(got, []string{"1"}) {
			w.Errorf("first written was %v, want event 1", got)
		}
		if got := ids(w.written(conn)); !slices.Equal(got, want) {
			w.Errorf("then written was %v, want %v", got, want)
		}
	})
}

// TestLoad_Bounds has many events, or large ones, wait for a client that does not read: few are taken for it.
func TestLoad_Bounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, want int }{
		"many":  {0, 64},
		"large": {5 << 10, 4}, // which is 16 KiB and some
		"huge":  {100 << 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onUnread(t, func(w *world, conn net.Conn) {
				w.publish(updated("alice", "v", `{}`))
				synctest.Wait()
				waiting := make([]*hub.Event, 100)
				for n := range waiting {
					waiting[n] = updated("alice", "v", `{"text":"`+strings.Repeat("x", c.size)+`"}`)
				}
				w.publish(waiting...)
				synctest.Wait()
				if got := w.handedOut(); got != 1 {
					w.Errorf("%d events were taken while the first was written, want 1", got)
				}
				w.written(conn)
				synctest.Wait()
				if got := w.handedOut() - 1; got != c.want {
					w.Errorf("then %d events were taken, want %d", got, c.want)
				}
			})
		})
	}
}

// TestLoad_AmongPings has a client ping while it gets very many events: whatever is written at once, frames stay whole,
// and in order.
func TestLoad_AmongPings(t *testing.T) {
	t.Parallel()
	const events, pings = 5000, 30
	onTCP(t, func(w *world) {
		c := w.dialUnread(handshake{user: "alice", query: "snapshot=0"})
		c.readOne("reelay.ready")
		answered := 0
		c.SetPongHandler(func(string) error { answered++; return nil })
		var asking sync.WaitGroup
		asking.Go(func() {
			for range events / 100 {
				batch := make([]*hub.Event, 100)
				for n := range batch {
					batch[n] = updated("alice", "v", `{}`)
				}
				w.publish(batch...)
			}
		})
		asking.Go(func() {
			for range pings {
				if err := c.WriteControl(websocket.PingMessage, []byte("still there?"), time.Now().Add(patience)); err != nil {
					w.Errorf("ping: %v", err)
				}
			}
		})
		for n := 1; n <= events; n++ {
			if got, want := c.readOne("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", n); got != want {
				w.Fatalf("got event %s, want %s", got, want)
			}
		}
		asking.Wait()
		c.send(`{"type":"ping"}`)
		c.readOne("reelay.pong") // every pong of the protocol came before
		if answered != pings {
			w.Errorf("%d of %d pings were answered", answered, pings)
		}
	})
}

// handedOut returns how many events sessions have taken.
func (w *world) handedOut() (n int) {
	w.Helper()
	if _, err := fmt.Sscan(w.metric("reelay_events_delivered_total"), &n); err != nil {
		w.Fatalf("the metric: %v", err)
	}
	return n
}
