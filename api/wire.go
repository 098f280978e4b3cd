package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// messageLimit is how long a client may take for one message, from its first byte to its last.
	messageLimit = 5 * time.Second
	// sendBuffer is what the kernel keeps for a client that does not read. Left alone it grows to megabytes, and hides
	// for as long that nobody reads.
	sendBuffer = 32 << 10
	// writePart is how much of a large frame has to be taken within writeLimit.
	writePart = 32 << 10
	// fragmentsMost is about how many frames one message may come in. Empty ones add nothing to its size, and cost as much
	// to read as others; libraries that cut messages at all make pieces of kilobytes.
	fragmentsMost = 1024
)

// moreFollows is the deadline for a frame that others follow at once: until the last of them comes, wire keeps it, and
// writes all by one system call.
var moreFollows = time.Unix(1, 0)

// errFragments ends the reading of a client that sends a message in too many frames.
var errFragments = errors.New("a message of too many frames")

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
	w.Conn = conn
	return &taken{w, buffered}, err
}

// wire is the connection under a WebSocket. It writes the frames of a load at once, where the library above would write
// each by itself. And it looks at the frames of the client for what the libraries do not tell: that a message was begun and
// is not brought to its end, which would hold the connection for ever, since every pong in between extends the deadline of
// reading.
type wire struct {
	net.Conn
	socket *socket // is told when a message takes longer than messageLimit

	more bool          // the next frame is to be kept; guarded by the library's lock for writing, as the next
	held *bytes.Buffer // frames that are kept; nil if there are none

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

// SetWriteDeadline implements net.Conn. The library calls it before each frame, under the lock that makes frames whole;
// the deadline moreFollows has the frame kept, to be written with those after it.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.more = t.Equal(moreFollows); w.more {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

// Write implements net.Conn. It is called under the library's lock, as SetWriteDeadline is, with one frame, or with a
// large one in two pieces.
func (w *wire) Write(p []byte) (int, error) {
	if w.more || w.held != nil && isPingOrPong(p) { // which goes with the frames around it
		if w.held == nil {
			w.held = takeBuffer()
		}
		return w.held.Write(p)
	}
	n := len(p)
	if other := w.reworded(p); other != nil {
		p = other
	}
	if w.held == nil {
		return n, w.writeOut(p)
	}
	held := w.held
	w.held = nil
	defer giveBuffer(held)
	held.Write(p)
	return n, w.writeOut(held.Bytes())
}

// isPingOrPong tells what begins a frame, where it does not follow the first piece of a large one.
func isPingOrPong(p []byte) bool {
	const finalPing, finalPong = 0x89, 0x8a
	return p[0] == finalPing || p[0] == finalPong
}

// writeOut writes. The deadline set holds for the first part, and each further one has its own: who takes the largest
// frame slowly is slow and has to get it some day, and who takes nothing of it is gone. No ping can be sent meanwhile, so
// that taking the frame counts as a pong.
func (w *wire) writeOut(p []byte) error {
	first := true
	return inParts(p, func(part []byte) error {
		if !first {
			now := time.Now()
			if err := errors.Join(w.Conn.SetWriteDeadline(now.Add(writeLimit)), w.SetReadDeadline(now.Add(pongLimit))); err != nil {
				return err
			}
		}
		first = false
		_, err := w.Conn.Write(part)
		return err
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
