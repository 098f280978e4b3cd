package api

import (
	"bytes"
	"net/http"

	"github.com/gin-gonic/gin"
)

// stream is a connection's transport as Server-Sent Events (WHATWG HTML, section 9.2). It costs a goroutine that waits for
// the client to leave, and what an outbox costs.
type stream struct {
	*connection

	line line
}

// line is what carries a stream: HTTP/1.1 or HTTP/2.
type line interface {
	// write writes what was appended to buffer, in the turn of a load. A client that does not take it in time is an error that isTimeout knows.
	write(buffer *bytes.Buffer, turn *load) error
	// wait returns when the client has left, or cut was called.
	wait()
	// cut breaks the response off. It does not end it: some clients take an end for the end of all, and never come back.
	cut()
}

// serveStream answers a registered connection with an event stream. Over HTTP/1.1 it takes the connection over from
// net/http and returns; over HTTP/2 it returns when the stream has ended.
func (s *Server) serveStream(c *gin.Context, conn *connection) {
	t := &stream{connection: conn}
	if c.Request.ProtoMajor >= 2 {
		t.line = newMultiplexed(c)
		t.run()
		panic(http.ErrAbortHandler) // resets the HTTP/2 stream
	}
	chunked, err := newChunked(c)
	if err != nil {
		conn.disconnected()
		s.unregister(conn)
		s.log.Debug("no event stream", "err", err)
		return
	}
	t.line = chunked
	go t.run() // Server.Run waits for it: the connection is registered
}

// run is the life of a stream.
func (t *stream) run() {
	defer t.server.unregister(t.connection)
	defer t.gone()
	defer func() { t.survived(recover()) }()
	t.connected(t)
	t.line.wait()
}

// gone ends the stream, when its client has left or was cut. Who writes may have to say first that it took too long: over
// HTTP/2, that alone makes the client one that has left.
func (t *stream) gone() {
	t.line.cut()
	t.out.close()
	t.disconnected()
}

// cut implements transport.
func (t *stream) cut() { t.line.cut() }

// write implements transport.
func (t *stream) write(l *load) error {
	if err := t.writeOut(l); err != nil {
		if isTimeout(err) {
			t.close(errSlowConsumer) // it cannot be told: it takes nothing
		}
		t.line.cut()
		return err
	}
	if l.why != nil {
		t.line.cut()
	}
	return nil
}

func (t *stream) writeOut(l *load) error {
	buffer := takeBuffer()
	defer giveBuffer(buffer)
	for _, f := range l.frames {
		appendStreamed(buffer, f)
	}
	if l.beat {
		buffer.WriteString(":\n")
	}
	if l.why != nil {
		appendStreamed(buffer, t.farewell(l.why))
	}
	return t.line.write(buffer, l)
}

// farewell is the last frame of a stream, which says why it ends.
func (t *stream) farewell(why *problem) frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frame("error", nil, errorOf(why, nil))
}
