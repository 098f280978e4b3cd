package api

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// errStreamEnded is what a stream that has ended answers to a frame.
var errStreamEnded = errors.New("the event stream has ended")

// stream is a connection's transport as Server-Sent Events (WHATWG HTML, section 9.2). It costs a goroutine that waits for
// the client to leave; another one writes, for as long as there is something to be written.
//
//	send, end, pulse ──▶ idle ──▶ writing: all there is, in one write ──▶ idle ──▶ …
//	                                  │ what end gave, or an error
//	                                  ▼
//	                                 cut ──▶ the waiting goroutine ends
type stream struct {
	*connection

	line    line
	writers sync.WaitGroup
	pulse   *time.Timer

	mu      sync.Mutex // may be taken while the connection's is held
	queue   []frame    // guarded by mu, as all below
	beat    bool       // the client is to be sent a sign of life
	why     *problem   // what the client is told at the end
	writing bool       // a goroutine writes
	ended   bool       // nothing is written any more
}

// line is what carries a stream: HTTP/1.1 or HTTP/2.
type line interface {
	// write writes what was appended to buffer. A client that does not take it in time is an error that isTimeout knows.
	write(buffer *bytes.Buffer) error
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
	t.pulse = time.AfterFunc(pingEvery, t.pulsed)
	t.connected(t)
	t.line.wait()
}

// gone ends the stream, when its client has left or was cut.
func (t *stream) gone() {
	t.disconnected()
	t.pulse.Stop()
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.line.cut()
	t.writers.Wait()
}

// send implements transport.
func (t *stream) send(f frame) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errStreamEnded
	}
	t.queue = append(t.queue, f)
	t.begin()
	return nil
}

// end implements transport.
func (t *stream) end(why *problem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.why = why
	t.begin()
}

// cut implements transport.
func (t *stream) cut() { t.line.cut() }

// pulsed is called every pingEvery.
func (t *stream) pulsed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.pulse.Reset(pingEvery)
		t.beat = true
		t.begin()
	}
}

// begin has what there is written. t.mu is held.
func (t *stream) begin() {
	if !t.writing && !t.ended {
		t.writing = true
		t.writers.Go(t.write)
	}
}

// take takes all there is to be written, or stops writing if there is nothing.
func (t *stream) take() (queue []frame, beat bool, why *problem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	queue, beat, why = t.queue, t.beat, t.why
	t.queue, t.beat = nil, false
	t.writing = !t.ended && (queue != nil || beat || why != nil)
	if !t.writing {
		return nil, false, nil
	}
	return queue, beat, why
}

// write writes all there is, until there is nothing more.
func (t *stream) write() {
	defer func() { t.survived(recover()) }()
	for {
		queue, beat, why := t.take()
		if queue == nil && !beat && why == nil {
			return
		}
		if err := t.writeOut(queue, beat, why); err != nil {
			if isTimeout(err) {
				t.close(errSlowConsumer) // it cannot be told: it takes nothing
			}
			t.line.cut()
			return
		}
		for range queue {
			t.sent()
		}
		if why != nil {
			t.line.cut()
			return
		}
	}
}

func (t *stream) writeOut(queue []frame, beat bool, why *problem) error {
	buffer := takeBuffer()
	defer giveBuffer(buffer)
	for _, f := range queue {
		appendStreamed(buffer, f)
	}
	if beat {
		buffer.WriteString(":\n")
	}
	if why != nil {
		appendStreamed(buffer, t.farewell(why))
	}
	return t.line.write(buffer)
}

// farewell is the last frame of a stream, which says why it ends.
func (t *stream) farewell(why *problem) frame {
	t.connection.mu.Lock()
	defer t.connection.mu.Unlock()
	return t.frame("error", nil, errorOf(why, nil))
}
