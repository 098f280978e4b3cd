package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// onWire runs a test with a wire and the client's end of it, and with a load that a writer writes. The connection is in
// memory, and so takes nothing before the client reads.
func onWire(t *testing.T, test func(*testing.T, *wire, net.Conn, *load)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		w := &wire{clientConn: newClientConn(server)}
		w.until = time.Now().Add(writeLimit)
		var tasks sync.WaitGroup
		l := &load{writers: newWriters(&tasks)}
		l.writers.working = 1
		test(t, w, client, l)
		_ = server.Close()
		tasks.Wait()
	})
}

func expect(t *testing.T, from net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); string(got) != want || err != nil {
		t.Errorf("written was %q, %v, want %q", got, err, want)
	}
}

// TestWire_LibraryAmidALoad has the library answer pings and end the WebSocket while a load is written: it does not wait
// for the client, frames stay whole, and no load follows the close frame.
func TestWire_LibraryAmidALoad(t *testing.T) {
	t.Parallel()
	message := websocket.FormatCloseMessage(closeProtocol, "words of the library")
	reworded := string(websocket.FormatCloseMessage(closeProtocol, errProtocol.Code))
	onWire(t, func(t *testing.T, w *wire, client net.Conn, l *load) {
		l.bytes.WriteString("\x81\x01a\x81\x01b")
		var sending sync.WaitGroup
		sending.Go(func() {
			if err := w.send(l, []byte("large")); err != nil {
				t.Errorf("send: %v", err)
			}
		})
		synctest.Wait()
		if l.writers != nil {
			t.Error("the writer waits for the client, and nobody took its place")
		}
		expect(t, client, "\x81\x01a")
		write := func(frame string) {
			if n, err := w.Write([]byte(frame)); n != len(frame) || err != nil {
				t.Errorf("a write of %d bytes returned %d, %v", len(frame), n, err)
			}
		}
		write("\x8a\x01p")
		write("\x8a\x01q")
		sending.Go(func() { write(string(append([]byte{finalClose, byte(len(message))}, message...))) })
		synctest.Wait()
		expect(t, client, "\x81\x01blarge\x8a\x01p\x8a\x01q\x88"+string(rune(len(reworded)))+reworded)
		sending.Wait()
		l.bytes.Reset()
		l.bytes.WriteString("\x81\x01c")
		if err := w.send(l, nil); !errors.Is(err, websocket.ErrCloseSent) {
			t.Errorf("a load after the close frame returned %v, want ErrCloseSent", err)
		}
	})
}

// TestWire_LoadAmidTheLibrary has a client that takes no pong: another takes the place of the writer who has a load for it.
func TestWire_LoadAmidTheLibrary(t *testing.T) {
	t.Parallel()
	onWire(t, func(t *testing.T, w *wire, client net.Conn, l *load) {
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := w.Write([]byte("\x8a\x01p")); err != nil {
				t.Errorf("write a pong: %v", err)
			}
		})
		synctest.Wait()
		l.bytes.WriteString("\x81\x01a")
		both.Go(func() {
			if err := w.send(l, nil); err != nil {
				t.Errorf("send: %v", err)
			}
		})
		synctest.Wait()
		if l.writers != nil {
			t.Error("the writer waits for the library, and nobody took its place")
		}
		expect(t, client, "\x8a\x01p\x81\x01a")
		both.Wait()
	})
}

// TestWire_NothingFollowsAFailedLoad has a close frame wait for a load that fails half way through a frame.
func TestWire_NothingFollowsAFailedLoad(t *testing.T) {
	t.Parallel()
	onWire(t, func(t *testing.T, w *wire, client net.Conn, l *load) {
		l.bytes.WriteString("\x81\x05hello")
		var both sync.WaitGroup
		both.Go(func() {
			if err := w.send(l, nil); !isTimeout(err) {
				t.Errorf("a load that was taken by half returned %v, want a timeout", err)
			}
		})
		expect(t, client, "\x81\x05he")
		<-time.After(writeLimit - time.Second)
		w.until = time.Now().Add(closeGrace)
		both.Go(func() {
			if _, err := w.Write([]byte("\x88\x02\x03\xe9")); !isTimeout(err) {
				t.Errorf("the close frame after it returned %v, want the error of the load", err)
			}
		})
		<-time.After(time.Second + time.Millisecond)
		_ = client.SetReadDeadline(time.Now().Add(time.Second))
		if got, _ := io.ReadAll(client); len(got) > 0 {
			t.Errorf("after half a frame came %q", got)
		}
		both.Wait()
	})
}

// TestWire_APongIsNotMissed has a client take nothing for as long as a pong has, and read again then.
func TestWire_APongIsNotMissed(t *testing.T) {
	t.Parallel()
	onWire(t, func(t *testing.T, w *wire, client net.Conn, l *load) {
		if _, err := w.Write([]byte("\x8a\x01p")); err != nil {
			t.Errorf("a pong that was not taken returned %v, want nothing", err)
		}
		l.bytes.WriteString("\x81\x01a")
		var sending sync.WaitGroup
		sending.Go(func() {
			if err := w.send(l, nil); err != nil {
				t.Errorf("the load after it returned %v, want nothing", err)
			}
		})
		expect(t, client, "\x81\x01a")
		sending.Wait()
	})
}

// TestWire_NothingFollowsAFailure has a client take half a pong, and the library give up: what followed would be no frame.
func TestWire_NothingFollowsAFailure(t *testing.T) {
	t.Parallel()
	onWire(t, func(t *testing.T, w *wire, client net.Conn, l *load) {
		var answering sync.WaitGroup
		answering.Go(func() {
			if _, err := w.Write([]byte("\x8a\x02pp")); !isTimeout(err) {
				t.Errorf("a pong that was not taken returned %v, want a timeout", err)
			}
		})
		expect(t, client, "\x8a\x02")
		answering.Wait()
		l.bytes.WriteString("\x81\x01a")
		if err := w.send(l, nil); !isTimeout(err) {
			t.Errorf("the next load returned %v, want the error of before", err)
		}
		if l.writers == nil {
			t.Error("it waited for the client")
		}
		if _, err := w.Write([]byte("\x8a\x01p")); !isTimeout(err) {
			t.Errorf("the next pong returned %v, want the error of before", err)
		}
	})
}

// TestWire_FewPongsAreKept has a client ask and ask while it takes nothing.
func TestWire_FewPongsAreKept(t *testing.T) {
	t.Parallel()
	onWire(t, func(t *testing.T, w *wire, _ net.Conn, _ *load) {
		w.writing = true // as who writes a load does
		pong := append([]byte{0x8a, 125}, bytes.Repeat([]byte("x"), 125)...)
		for range 1000 {
			if _, err := w.Write(pong); err != nil {
				t.Fatal(err)
			}
		}
		if kept := w.held.Len(); kept > pongsMost+len(pong) || kept < pongsMost {
			t.Errorf("%d bytes of pongs are kept, want about %d", kept, pongsMost)
		}
	})
}

// timed is a connection that keeps the deadline set last, and counts them.
type timed struct {
	*net.TCPConn

	deadline time.Time
	set      int
	waits    chan struct{} // gets an element for each deadline
}

func (c *timed) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	c.set++
	if !t.IsZero() {
		c.waits <- struct{}{}
	}
	return c.TCPConn.SetWriteDeadline(t)
}

// TestClientConn_NoDeadlineStays has the kernel take what it can at once, and a client take the rest later. A deadline that
// stayed would pass some day, and end a connection that is in order.
func TestClientConn_NoDeadlineStays(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// Left to itself, the kernel may take all of it at once.
	if err := errors.Join(client.(*net.TCPConn).SetReadBuffer(32<<10), server.(*net.TCPConn).SetWriteBuffer(sendBuffer)); err != nil { //nolint:forcetypeassert // as below
		t.Fatal(err)
	}
	tcp := &timed{TCPConn: server.(*net.TCPConn), waits: make(chan struct{}, 10)} //nolint:forcetypeassert // that is what listens
	c := newClientConn(tcp)
	var tasks sync.WaitGroup
	much := []byte(strings.Repeat("0123456789", 1<<17))
	for round := range 2 {
		l := &load{writers: newWriters(&tasks)}
		l.writers.working = 1
		if err := c.write([]byte("little"), l); err != nil || l.writers == nil {
			t.Fatalf("round %d: a write that has room returned %v, and waited: %v", round, err, l.writers == nil)
		}
		expect(t, client, "little")
		if tcp.set != 2*round {
			t.Errorf("round %d: %d deadlines were set, want none for what has room", round, tcp.set-2*round)
		}
		var writing sync.WaitGroup
		writing.Go(func() {
			if err := c.write(much, l); err != nil || l.writers != nil {
				t.Errorf("round %d: a write that has no room returned %v, and waited: %v", round, err, l.writers == nil)
			}
		})
		<-tcp.waits // a client that reads at once may be as fast as the kernel
		expect(t, client, string(much))
		writing.Wait()
		if tcp.set != 2*round+2 || !tcp.deadline.IsZero() {
			t.Errorf("round %d: %d deadlines were set, the last %v, want two, and none to stay", round, tcp.set-2*round, tcp.deadline)
		}
	}
}

func TestAppendHead(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]string{
		0: "\x81\x00", 125: "\x81\x7d", 126: "\x81\x7e\x00\x7e", 65535: "\x81\x7e\xff\xff", 65536: "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		if got := string(appendHead(nil, size)); got != want {
			t.Errorf("a frame of %d bytes begins with %q, want %q", size, got, want)
		}
	}
}
