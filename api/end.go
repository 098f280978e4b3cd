package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
)

// How a connection ends:
//
//	open ── close(why) ──▶ closing: no further frame is given to melody. When those in flight are written, the close
//	  │                    frame goes out; the client answers with its own, and the reading goroutine ends.
//	  │                      │ closeGrace after close, whatever the client does: cut
//	  ▼                      ▼
//	ended ◀────────── disconnected, by the reading goroutine

// close ends the connection and tells the client why, at once if the socket is idle. It may block for as long as the
// socket takes nothing, closeGrace at the most. Frames that were not given to melody are dropped: the cursor brings
// them back. To close again changes nothing.
func (c *connection) close(why *problem) {
	c.mu.Lock()
	if !c.closing {
		c.own = nil
	}
	c.mu.Unlock()
	c.closeAnswered(why)
}

// closeAnswered closes after what has been said, such as the answers to what the client did wrong before.
func (c *connection) closeAnswered(why *problem) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.closing, c.why = true, why
	if c.socket != nil {
		c.after(closeGrace, c.cut)
	}
	c.mu.Unlock()
	c.cancel()
	c.server.metrics.closes.WithLabelValues(why.Code).Inc()
	c.sayWhy()
}

// sayWhy sends the close frame, once, when all that goes before it is written. With another frame in flight melody's
// writing goroutine would find the way closed, and take that for a reason to close the socket at once; and a socket that
// is closed while something of the client is unread is reset, so that the close frame could get lost.
func (c *connection) sayWhy() {
	c.mu.Lock()
	why, socket := c.why, c.socket
	if why == nil || socket == nil || c.inFlight > 0 || len(c.own) > 0 {
		c.mu.Unlock()
		return
	}
	c.why = nil
	c.mu.Unlock()
	message := websocket.FormatCloseMessage(why.Close, why.Code)
	// Not melody's own, after which it closes the socket without waiting for the client's answer. If it fails, the
	// library has sent one already or the socket is stuck or gone, and there is nobody to be told.
	_ = socket.WebsocketConnection().WriteControl(websocket.CloseMessage, message, time.Now().Add(closeGrace))
}

// cut ends a connection whose client does not answer our close frame, or never got to read it.
func (c *connection) cut() {
	c.mu.Lock()
	socket := c.socket
	c.mu.Unlock()
	_ = socket.WebsocketConnection().Close()
}

// parting answers the client's close frame. The code is the client's own, unless that was no code.
func (c *connection) parting(conn *websocket.Conn, code int) {
	if c.wire.stub {
		code = closeProtocol
	}
	// An error says that a close frame of ours went out before, and then all is said, or that the client has gone.
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeGrace))
}

// failed is told by melody why a socket ends, or cannot take a frame.
func (c *connection) failed(err error) {
	switch {
	case isClose(err) || errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed):
	case errors.Is(err, melody.ErrWriteClosed):
		// It ended while a frame was given to it. c.mu is held, and disconnected follows.
	case errors.Is(err, melody.ErrMessageBufferFull):
		// Never seen: no more frames are in flight than the buffer holds. One would be lost, so the cursor has to bring it
		// back. c.mu is held.
		c.log.Error("a frame was dropped, closing the connection", "err", err)
		c.server.tasks.Go(func() { c.close(errInternal) })
	case errors.Is(err, websocket.ErrReadLimit):
		c.close(c.server.reached(limitFrameSize))
		c.linger()
	case brokeProtocol(err):
		c.log.Debug("the client broke the protocol", "err", err)
		c.close(errProtocol)
		c.linger()
	case isTimeout(err) && c.waiting():
		// It cannot be told: its socket takes nothing.
		c.close(errSlowConsumer)
	default:
		c.log.Debug("connection lost", "err", err)
	}
}

// waiting tells whether frames wait for the socket.
func (c *connection) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight > 0
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

// linger reads what the client still sends, to no purpose, until it closes or is cut: see sayWhy for why. It is called
// by the reading goroutine, when the library will not read any more.
func (c *connection) linger() { _, _ = io.Copy(io.Discard, c.wire.Conn) }

// disconnected is called when the socket has ended, or did not come to be; by the reading goroutine, as its last act.
func (c *connection) disconnected() {
	c.mu.Lock()
	c.closing, c.ended, c.why, c.own = true, true, nil, nil
	session, leaves := c.session, c.leaves
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	for _, leave := range leaves {
		leave()
	}
	c.cancel()
	c.wire.stop()
	if session != nil {
		session.Close()
	}
}

// survived is told what recover returned, and keeps a panic to the connection it happened in.
func (c *connection) survived(value any) {
	if value != nil {
		c.server.metrics.panics.Inc()
		c.log.Error("panic in a connection", "panic", fmt.Sprint(value), "stack", stack())
		c.close(errInternal)
	}
}

// tracked runs f, and has Server.Run wait for it; unless the connection has ended.
func (c *connection) tracked(f func()) {
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.server.tasks.Add(1) // the connection is registered until it has ended, so Run is not through waiting yet
	}
	c.mu.Unlock()
	if !ended {
		defer c.server.tasks.Done()
		f()
	}
}
