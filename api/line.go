package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// saidMost is how much the client of an event stream may send, which has nothing to say. What it sends is not kept.
const saidMost = 4 << 10

// chunked is a stream's line over HTTP/1.1: a connection that was taken over from net/http, and a body in chunks
// (RFC 9112, section 7.1) that never gets its last one.
type chunked struct {
	conn clientConn
	head http.Header // of the answer, until it is written; used by the one who writes
	said [64]byte    // what the client sends goes here
}

func newChunked(c *gin.Context) (*chunked, error) {
	conn, _, err := takeOver(c.Writer)
	if err != nil {
		return nil, err
	}
	limitUnanswered(conn)
	head := c.Writer.Header() // what is for every answer: it is ours to write now
	for _, h := range streamHeader {
		head.Set(h[0], h[1])
	}
	return &chunked{conn: newClientConn(conn), head: head}, nil
}

// write implements line.
func (l *chunked) write(buffer *bytes.Buffer, turn *load) error {
	out := takeBuffer()
	defer giveBuffer(out)
	if l.head != nil {
		out.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n")
		_ = l.head.Write(out) // to memory
		l.head = nil
		fmt.Fprintf(out, "Date: %s\r\n\r\n", time.Now().UTC().Format(http.TimeFormat))
		var retry bytes.Buffer
		appendRetry(&retry)
		fmt.Fprintf(out, "%x\r\n%s\r\n", retry.Len(), retry.Bytes())
	}
	fmt.Fprintf(out, "%x\r\n", buffer.Len())
	out.Write(buffer.Bytes())
	out.WriteString("\r\n")
	return inParts(out.Bytes(), func(part []byte) error { return l.conn.write(part, turn) })
}

// wait implements line.
func (l *chunked) wait() {
	for said := 0; said <= saidMost; {
		n, err := l.conn.Read(l.said[:])
		if err != nil {
			return
		}
		said += n
	}
}

// cut implements line.
func (l *chunked) cut() { _ = l.conn.Close() }

// multiplexed is a stream's line over HTTP/2: one of the streams of a connection that net/http serves.
type multiplexed struct {
	writer     http.ResponseWriter
	controller *http.ResponseController
	context    context.Context // the request's
	begun      bool            // used by the one who writes
	once       sync.Once
	end        chan struct{} // closed by cut
}

func newMultiplexed(c *gin.Context) *multiplexed {
	w := c.Writer.(interface{ Unwrap() http.ResponseWriter }).Unwrap() //nolint:errcheck // gin's swallows errors of Flush; it has this method
	return &multiplexed{writer: w, controller: http.NewResponseController(w), context: c.Request.Context(), end: make(chan struct{})}
}

// write implements line.
func (l *multiplexed) write(buffer *bytes.Buffer, turn *load) error {
	turn.stall() // net/http does not say whether it has to wait
	if !l.begun {
		l.begun = true
		for _, h := range streamHeader {
			l.writer.Header().Set(h[0], h[1])
		}
		var retry bytes.Buffer
		appendRetry(&retry)
		if _, err := l.writer.Write(retry.Bytes()); err != nil { // into its buffer
			return err
		}
	}
	var started time.Time
	err := inParts(buffer.Bytes(), func(part []byte) error {
		started = time.Now()
		if err := l.controller.SetWriteDeadline(started.Add(writeLimit)); err != nil {
			return err
		}
		if _, err := l.writer.Write(part); err != nil {
			return err
		}
		return l.controller.Flush()
	})
	if err != nil && time.Since(started) >= writeLimit {
		return errors.Join(os.ErrDeadlineExceeded, err) // net/http only says that the stream is closed
	}
	// A deadline left alone would reset a stream that has nothing to write.
	return errors.Join(err, l.controller.SetWriteDeadline(time.Time{}))
}

// wait implements line.
func (l *multiplexed) wait() {
	select {
	case <-l.end:
	case <-l.context.Done():
		if _, leaving := errors.AsType[*problem](context.Cause(l.context)); leaving {
			<-l.end // the client stays, to be told when its turn comes
		}
	}
}

// cut implements line. What is being written is given up.
func (l *multiplexed) cut() {
	l.once.Do(func() {
		close(l.end)
		_ = l.controller.SetWriteDeadline(time.Now().Add(-time.Second))
	})
}
