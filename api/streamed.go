package api

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// streamHeader is what the answer to a client of an event stream begins with. Nobody on the way may keep the stream back,
// to have more of it at once, to compress it or to have it another time.
var streamHeader = [][2]string{
	{"Content-Type", streamType},
	{"Cache-Control", "no-store, no-transform"},
	{"X-Accel-Buffering", "no"}, // nginx
}

const (
	// retryLeast and retryMost are the bounds of what a client is asked to wait before it comes back, so that those who
	// lost their streams at one moment do not come back at one.
	retryLeast, retryMost = time.Second, 3 * time.Second
	// bufferMost is the size up to which a buffer is kept to be used again.
	bufferMost = 64 << 10
)

// appendRetry appends the line that says when to come back. A frame has to follow: lines without data are no event, and
// some clients drop them.
func appendRetry(buffer *bytes.Buffer) {
	wait := retryLeast + rand.N(retryMost-retryLeast) //nolint:gosec // nobody gains by guessing it
	buffer.WriteString("retry: ")
	buffer.WriteString(strconv.FormatInt(wait.Milliseconds(), 10))
	buffer.WriteByte('\n')
}

// appendStreamed appends a frame as an event of a stream. The id comes last, so that a client that takes it line by line
// has it when it has the data.
//
// What ends a line in a stream can stand in JSON between tokens only, where it means nothing: a reader puts a newline
// between two lines of data.
func appendStreamed(buffer *bytes.Buffer, f frame) {
	rest := f.json
	for {
		buffer.WriteString("data: ")
		end := bytes.IndexAny(rest, "\r\n")
		if end < 0 {
			break
		}
		buffer.Write(rest[:end])
		buffer.WriteByte('\n')
		if bytes.HasPrefix(rest[end:], []byte("\r\n")) {
			end++
		}
		rest = rest[end+1:]
	}
	buffer.Write(rest)
	buffer.WriteByte('\n')
	if f.cursor.Log != "" {
		buffer.WriteString("id: ")
		buffer.WriteString(f.cursor.String()) // [a-z0-9.] only
		buffer.WriteByte('\n')
	}
	buffer.WriteByte('\n')
}

// mustComeBack tells whether a refusal has to be told in a stream: an EventSource never comes back after any status but
// 200, and is not told of the status either. One that has been here before says so by Last-Event-ID.
func mustComeBack(r *http.Request, p *problem) bool {
	switch p.Code {
	case errRateLimited.Code:
		return true
	case errUnavailable.Code, errRestart.Code:
		return isBrowser(r) || r.Header.Get("Sec-Fetch-Mode") != "" || r.Header.Get("Last-Event-ID") != ""
	}
	return false
}

// refuseStream answers 200 with a stream that says when to come back and why it is broken off. It does not return.
func refuseStream(c *gin.Context, p *problem) {
	var buffer bytes.Buffer
	appendRetry(&buffer)
	appendStreamed(&buffer, frame{json: encodeOwn(newID(), 1, "error", nil, errorOf(p, nil))})
	for _, h := range streamHeader {
		c.Header(h[0], h[1])
	}
	c.Status(http.StatusOK)
	_, _ = c.Writer.Write(buffer.Bytes())
	c.Writer.Flush()
	panic(http.ErrAbortHandler) // breaks the answer off, without an end
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func takeBuffer() *bytes.Buffer {
	return buffers.Get().(*bytes.Buffer) //nolint:errcheck // giveBuffer alone puts something there
}

func giveBuffer(buffer *bytes.Buffer) {
	if buffer.Cap() <= bufferMost {
		buffer.Reset()
		buffers.Put(buffer)
	}
}
