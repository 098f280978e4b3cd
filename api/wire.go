package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// messageLimit is how long a client may take for one message, from its first byte to its last.
	messageLimit = 5 * time.Second
	// sendBuffer is what the kernel keeps for a client that does not read. Left alone it grows to megabytes, and hides
	// for as long that nobody reads.
	sendBuffer = 32 << 10
	// writePart is how much of a large frame has to be taken within writeLimit.
	writePart = 32 << 10
	// pongsMost is how many bytes of pongs are kept for a client that is being written to.
	pongsMost = 8 << 10
	// fragmentsMost is about how many frames one message may come in. Empty ones add nothing to its size, and cost as much
	// to read as others; libraries that cut messages at all make pieces of kilobytes.
	fragmentsMost = 1024
)

// errFragments ends the reading of a client that sends a message in too many frames.
var errFragments = errors.New("a message of too many frames")

// What whole control frames begin with.
const finalClose, finalPing, finalPong = 0x88, 0x89, 0x8a

// takeOver takes a connection over from net/http, which is through with it then.
func takeOver(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	if tcp, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // without it all works, and a stalled client costs more
	}
	return conn, buffered, nil
}

// takeOver makes the connection under a response the one under this WebSocket.
func (w *wire) takeOver(from http.ResponseWriter) (*taken, error) {
	conn, buffered, err := takeOver(from)
	if err == nil {
		w.clientConn = newClientConn(conn)
	}
	return &taken{w, buffered}, err
}

// wire is the connection under a WebSocket. Loads are written past the library, which does the handshake, reads, and
// writes pongs and close frames: wire keeps those apart from loads. And it looks at the frames of the client for what the
// library does not tell: that a message was begun and is not brought to its end, which would hold the connection for ever,
// since every pong in between extends the deadline of reading.
type wire struct {
	clientConn
	socket *socket // is told when a message takes longer than messageLimit

	until time.Time // the deadline for what the library writes; guarded by the library's lock

	mu      sync.Mutex    // that of writers alone is taken while it is held
	writing bool          // somebody writes to the connection; guarded by mu, as all below
	idle    chan struct{} // closed when that ends; nil while nobody waits for it
	held    *bytes.Buffer // what the library has written and is held back; nil: nothing
	over    error         // why nothing more may be written; ErrCloseSent: a close frame is the last

	// All below is used by the reading goroutine alone.
	header  [14]byte // of the frame that is arriving: 2 bytes, up to 8 of length, 4 of mask
	have    int      // bytes of header
	payload uint64   // bytes of the frame that are still to come
	message bool     // a message of several frames has begun
	pieces  int      // frames of it
	timer   *time.Timer
	closed  bool // a close frame has come
	stub    bool // it had one byte, half a code: the library takes that for none
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.watch(p[:n])
	if w.pieces > fragmentsMost {
		return 0, errFragments
	}
	return n, err
}

// SetWriteDeadline implements net.Conn. It is for what the library writes next, and called under its lock.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.until = t
	return nil
}

// Write implements net.Conn. The library calls it with a frame as a whole, under its lock. It does not wait for a load that
// is being written: who writes that writes the frame, too. For a close frame alone it waits, as long as the library wants,
// since the connection may be closed after that.
func (w *wire) Write(p []byte) (int, error) {
	n := len(p)
	if other := w.reworded(p); other != nil {
		p = other
	}
	if mine, err := w.hold(p); !mine || err != nil {
		return n, err
	}
	return n, w.finish(nil, nil)
}

// hold keeps a frame of the library to be written. It reports whether the caller has the right to write now.
func (w *wire) hold(p []byte) (mine bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over != nil {
		return false, w.over
	}
	if w.held == nil {
		w.held = takeBuffer()
	} else if p[0] == finalPong && w.held.Len() > pongsMost {
		return false, nil // it is not missed: such a client does not read
	}
	w.held.Write(p)
	if p[0] == finalClose {
		w.over = websocket.ErrCloseSent
		if err := w.await(time.Until(w.until)); err != nil {
			return false, err
		}
		if !errors.Is(w.over, websocket.ErrCloseSent) {
			return false, w.over // who was writing has failed, and the last frame may be half there
		}
	} else if w.writing {
		return false, nil // who writes sees to it
	}
	w.writing = true
	return true, nil
}

// await waits until nobody writes. mu is held, but not while it waits.
func (w *wire) await(most time.Duration) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for w.writing {
		if w.idle == nil {
			w.idle = make(chan struct{})
		}
		var err error
		idle := w.idle
		w.mu.Unlock()
		select {
		case <-idle:
		case <-limit.C:
			err = os.ErrDeadlineExceeded
		}
		w.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// send writes a load: its bytes, and what is too large to be among them.
func (w *wire) send(l *load, large []byte) error {
	held, err := w.begin(l)
	if err != nil {
		return err
	}
	if held != nil {
		err = w.writeHeld(l, held)
	}
	if err == nil {
		err = w.writeOut(l.bytes.Bytes(), l)
	}
	if err == nil && large != nil {
		err = w.writeOut(large, l)
	}
	return w.finish(l, err)
}

// begin takes the right to write a load, and returns what is held, which comes before it.
func (w *wire) begin(l *load) (held *bytes.Buffer, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing {
		l.stall() // the library writes
		if err := w.await(writeLimit); err != nil {
			return nil, err
		}
	}
	if w.over != nil {
		return nil, w.over // who writes the close frame writes what is held
	}
	w.writing = true
	held, w.held = w.held, nil
	return held, nil
}

// finish writes what is held, and then gives up the right to write; after an error, at once. l is nil where the library
// writes.
func (w *wire) finish(l *load, err error) error {
	for {
		held := w.end(err)
		if held == nil {
			return err
		}
		err = w.writeHeld(l, held)
	}
}

// end gives up the right to write, unless something is held, which it returns. After an error nothing is written any more:
// the last frame may be half there.
func (w *wire) end(err error) (held *bytes.Buffer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.over = err
	} else if held = w.held; held != nil {
		w.held = nil
		return held
	}
	w.writing = false
	if w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
	return nil
}

func (w *wire) writeHeld(l *load, held *bytes.Buffer) error {
	defer giveBuffer(held)
	if l != nil {
		return w.write(held.Bytes(), l)
	}
	err := w.wait(held.Bytes(), w.until)
	if errors.Is(err, errUntaken) && held.Bytes()[0] == finalPong {
		return w.Conn.SetWriteDeadline(time.Time{}) // it is not missed, and what comes next has a time of its own
	}
	return err
}

// writeOut writes in the turn of a load. Who takes the largest frame slowly is slow and has to get it some day, and who
// takes nothing of it is gone. No ping can be sent meanwhile, so that taking a part counts as a pong.
func (w *wire) writeOut(p []byte, l *load) error {
	first := true
	return inParts(p, func(part []byte) error {
		if !first {
			if err := w.SetReadDeadline(time.Now().Add(pongLimit)); err != nil {
				return err
			}
		}
		first = false
		return w.write(part, l)
	})
}

// inParts writes p in parts of writePart, so that each can have its own deadline, until one is an error.
func inParts(p []byte, write func(part []byte) error) error {
	for len(p) > writePart {
		if err := write(p[:writePart]); err != nil {
			return err
		}
		p = p[writePart:]
	}
	return write(p)
}

// watch follows the frames in what has arrived, and keeps the timer running while a message is incomplete. Frames that
// break the protocol need no care: the library ends the connection.
func (w *wire) watch(p []byte) {
	for len(p) > 0 {
		if w.payload > 0 {
			some := min(w.payload, uint64(len(p)))
			p = p[some:]
			if w.payload -= some; w.payload == 0 {
				w.frameEnds()
			}
			continue
		}
		w.header[w.have] = p[0]
		p = p[1:]
		if w.have++; w.have == headerSize(w.header[:w.have]) {
			w.frameBegins()
		}
	}
	if (w.message || w.have > 0) && w.timer == nil {
		w.timer = time.AfterFunc(messageLimit, w.socket.late)
	}
}

// headerSize returns the size of a frame's header that begins so; what it cannot tell yet, it leaves out.
func headerSize(header []byte) int {
	size := 2
	if len(header) < size {
		return size
	}
	switch header[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if header[1]&0x80 != 0 {
		size += 4
	}
	return size
}

func (w *wire) frameBegins() {
	const opClose, firstControl = 0x8, 0x8
	switch length := w.header[1] & 0x7f; length {
	case 126:
		w.payload = uint64(binary.BigEndian.Uint16(w.header[2:]))
	case 127:
		w.payload = binary.BigEndian.Uint64(w.header[2:])
	default:
		w.payload = uint64(length)
	}
	op, final := w.header[0]&0x0f, w.header[0]&0x80 != 0
	if op < firstControl {
		if w.pieces++; !w.message {
			w.pieces = 1
		}
		w.message = !final
	}
	if op == opClose && !w.closed {
		w.closed, w.stub = true, w.payload == 1
	}
	if w.payload == 0 {
		w.frameEnds()
	}
}

func (w *wire) frameEnds() {
	w.have = 0
	if !w.message { // a control frame may stand amid a message: it does not count
		w.stop()
	}
}

func (w *wire) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}
