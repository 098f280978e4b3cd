package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
	"golang.org/x/time/rate"
)

const (
	// frameBurst is how many seconds' worth of frames a client may send at once.
	frameBurst = 4
	// badFramesMost is how many frames in error end a connection.
	badFramesMost = 5
)

// socket is a connection's transport over WebSocket.
type socket struct {
	*connection

	limiter rate.Limiter
	wire    wire
	melody  *melody.Session // set before the connection is told of the socket
	bad     int             // frames in error; used by the reading goroutine alone
}

func newSocket(c *connection) *socket {
	t := &socket{connection: c, limiter: *newFrameLimiter(c.server.limits)}
	t.wire.socket = t
	return t
}

// opened is called by melody when the WebSocket is there, and returns when it has ended. melody would begin to read it
// after this, and have a goroutine wait for something to write, as long as the socket lives; each of them costs an idle
// client a stack. It is read here, on the goroutine that there is, and melody finds that there is nothing left to read.
func (t *socket) opened(session *melody.Session) {
	defer func() { t.survived(recover()) }()
	session.Request = nobody // nothing here needs the client's any more, and it is large
	conn := session.WebsocketConnection()
	conn.SetPingHandler(func(data string) error { t.pinged(conn, data); return nil })
	conn.SetCloseHandler(func(code int, _ string) error { t.parting(conn, code); return nil })
	t.melody = session
	t.connected(t)
	t.read(conn)
}

// read takes what the client sends, until there is nothing more to come.
func (t *socket) read(conn *websocket.Conn) {
	extend := func() error { return conn.SetReadDeadline(time.Now().Add(pongLimit)) }
	conn.SetReadLimit(t.server.limits.FrameSize)
	conn.SetPongHandler(func(string) error { t.admit(); return extend() })
	err := extend()
	for err == nil {
		var kind int
		var message []byte
		kind, message, err = conn.ReadMessage()
		switch {
		case err != nil:
		case kind == websocket.BinaryMessage:
			t.close(errBinary)
		default:
			t.receive(message)
		}
	}
	t.failed(err)
}

// late is called when a message takes longer than messageLimit.
func (t *socket) late() { t.tracked(func() { t.close(errFrameTimeout) }) }

// write implements transport.
func (t *socket) write(l *load) error {
	err := t.writeOut(l)
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) { // which says that it ends anyway
		t.failed(err)
		t.cut()
	}
	return err
}

// writeOut makes the frames of WebSocket (RFC 6455, section 5.2) itself: the library would write each by itself.
func (t *socket) writeOut(l *load) error {
	if l.beat {
		l.bytes.Write([]byte{finalPing, 0})
	}
	var large []byte
	for _, f := range l.frames {
		l.bytes.Write(appendHead(l.bytes.AvailableBuffer(), len(f.json)))
		if len(f.json) > loadBytes {
			large = f.json // the load is full, and this is its last. It is not copied for who reads slowly.
			break
		}
		l.bytes.Write(f.json)
	}
	if l.bytes.Len() > 0 {
		if err := t.wire.send(l, large); err != nil {
			return err
		}
	}
	if l.why != nil {
		l.stall() // the goroutine that reads may be at it to write
		t.sayWhy(t.melody.WebsocketConnection(), l.why)
	}
	return nil
}

// appendHead appends what a text frame of so many bytes begins with.
func appendHead(to []byte, size int) []byte {
	const finalText = 0x81
	switch {
	case size < 126:
		return append(to, finalText, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(to, finalText, 126), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(to, finalText, 127), uint64(size))
	}
}

// sayWhy sends the close frame, which the client answers with its own. The socket stays until then, or until it is cut:
// one that is closed while something of the client is unread is reset, so that the close frame could get lost.
func (t *socket) sayWhy(conn *websocket.Conn, why *problem) {
	message := websocket.FormatCloseMessage(why.Close, why.Code)
	// Not melody's own, after which it closes the socket without waiting for the client's answer. If it fails, the
	// library has sent one already or the socket is stuck or gone, and there is nobody to be told.
	_ = conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(closeGrace))
}

// cut implements transport.
func (t *socket) cut() { _ = t.melody.WebsocketConnection().Close() }

// parting answers the client's close frame. The code is the client's own, unless that was no code.
func (t *socket) parting(conn *websocket.Conn, code int) {
	reason := ""
	if t.wire.stub {
		code, reason = closeProtocol, errProtocol.Code
	}
	// An error says that a close frame of ours went out before, and then all is said, or that the client has gone.
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(closeGrace))
}

// failed is told why a socket cannot be read or written.
func (t *socket) failed(err error) {
	switch {
	case isClose(err) || errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed):
	case errors.Is(err, websocket.ErrReadLimit):
		t.close(t.server.reached(limitFrameSize))
		t.linger()
	case errors.Is(err, errFragments):
		t.close(t.server.reached(limitFrameRate))
		t.linger()
	case brokeProtocol(err):
		t.log().Debug("the client broke the protocol", "err", err)
		t.close(errProtocol)
		t.linger()
	case isTimeout(err) && t.waiting():
		// It cannot be told: its socket takes nothing.
		t.close(errSlowConsumer)
	default:
		t.log().Debug("connection lost", "err", err)
	}
}

// gone is called when the socket has ended, or did not come to be; by the reading goroutine, as its last act.
func (t *socket) gone() {
	t.disconnected()
	t.wire.stop()
	if t.wire.Conn != nil {
		_ = t.wire.Close()
	}
	t.out.close()
}

// brokeProtocol tells whether the library gave up because of what the client sent. It has sent a close frame then. It
// has no type for these errors; all that it makes otherwise have one.
func brokeProtocol(err error) bool {
	_, isNetwork := errors.AsType[net.Error](err)
	return !isClose(err) && !isNetwork && !errors.Is(err, websocket.ErrCloseSent) && strings.HasPrefix(err.Error(), "websocket: ")
}

func isClose(err error) bool {
	_, ok := errors.AsType[*websocket.CloseError](err)
	return ok
}

func isTimeout(err error) bool {
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

// linger reads what the client still sends, to no purpose, until it closes or is cut: see end for why. It is called
// by the reading goroutine, when the library will not read any more.
func (t *socket) linger() { _, _ = io.Copy(io.Discard, t.wire.Conn) }
