package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/hub"
)

// page is an Origin that may connect.
const page = "http://reelay.test"

// patience is how long a client waits for something that has to come: in a bubble it costs nothing.
const patience = 30 * time.Second

// frame is a frame of the server.
type frame struct {
	SpecVersion string
	ID          string
	Source      string
	Type        string
	Subject     string
	Cursor      string
	Data        json.RawMessage

	raw string
}

// client is a WebSocket that is read all the time.
type client struct {
	*websocket.Conn

	w      *world
	frames chan frame
	end    error // why frames is closed
}

// handshake is what a client begins with.
type handshake struct {
	query     string
	token     string // in Authorization
	protocols []string
	origin    string
	header    http.Header
	user      string // gets a token in Authorization
}

// try makes a handshake. Either the client or the answer is nil.
func (w *world) try(h handshake) (*client, *answer) {
	w.Helper()
	header := h.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if h.user != "" {
		h.token = w.token(h.user)
	}
	if h.token != "" {
		header.Set("Authorization", "Bearer "+h.token)
	}
	if h.origin != "" {
		header.Set("Origin", h.origin)
	}
	dialer := websocket.Dialer{NetDialContext: w.dialer, Subprotocols: h.protocols}
	socket, response, err := dialer.DialContext(context.Background(), "ws://reelay.test/events?"+h.query, header)
	if errors.Is(err, websocket.ErrBadHandshake) {
		body, err := io.ReadAll(response.Body)
		if err != nil {
			w.Fatalf("read a refusal: %v", err)
		}
		return nil, &answer{response, string(body)}
	}
	if err != nil {
		w.Fatalf("connect with %+v: %v", h, err)
	}
	_ = response.Body.Close()
	c := &client{Conn: socket, w: w, frames: make(chan frame, 1<<14)}
	return c, nil
}

// dial makes a handshake that succeeds, and reads what comes.
func (w *world) dial(h handshake) *client {
	w.Helper()
	c := w.dialUnread(h)
	go c.read()
	return c
}

// dialUnread makes a handshake that succeeds, and reads nothing.
func (w *world) dialUnread(h handshake) *client {
	w.Helper()
	c, refusal := w.try(h)
	if refusal != nil {
		w.Fatalf("connect with %+v: refused with %s\n%s", h, refusal.Status, refusal.body)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// live connects a user without a snapshot, and takes the frame ready.
func (w *world) live(user string) *client {
	w.Helper()
	c := w.dial(handshake{user: user, query: "snapshot=0"})
	c.next("reelay.ready")
	return c
}

// read reads all frames there are to come.
func (c *client) read() { c.readWith(func() {}) }

// readWith does so, and calls atEnd before it says that there are no more.
func (c *client) readWith(atEnd func()) {
	defer close(c.frames)
	for {
		_, message, err := c.ReadMessage()
		if err != nil {
			c.end = err
			atEnd()
			return
		}
		c.frames <- parse(message)
	}
}

// readOne reads one frame, of a type. It is for clients that are not read all the time.
func (c *client) readOne(kind string) frame {
	c.w.Helper()
	_, message, err := c.ReadMessage()
	if err != nil {
		c.w.Fatalf("waiting for %s: the socket ended with %v", kind, err)
	}
	f := parse(message)
	if f.Type != kind {
		c.w.Fatalf("waiting for %s: got %s", kind, f.raw)
	}
	return f
}

func parse(message []byte) frame {
	f := frame{raw: string(message)}
	if err := json.Unmarshal(message, &f); err != nil {
		f.Type = "not JSON: " + err.Error()
	}
	return f
}

// next takes the next frame, which is of a type.
func (c *client) next(kind string) frame {
	c.w.Helper()
	select {
	case f, open := <-c.frames:
		switch {
		case !open:
			c.w.Fatalf("waiting for %s: the socket ended with %v", kind, c.end)
		case f.Type != kind:
			c.w.Fatalf("waiting for %s: got %s", kind, f.raw)
		}
		return f
	case <-time.After(patience):
		c.w.Fatalf("waiting for %s: nothing came", kind)
	}
	return frame{}
}

// nextError takes the next frame, which is an error of a code.
func (c *client) nextError(code string) frame {
	c.w.Helper()
	f := c.next("reelay.error")
	if got := f.field("code"); got != code {
		c.w.Fatalf("got error %s, want %s", got, code)
	}
	return f
}

// field returns a member of data, as text.
func (f frame) field(name string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(f.Data, &members) != nil {
		return ""
	}
	return strings.Trim(string(members[name]), `"`)
}

// silent checks that there is no frame to take. In a bubble only.
func (c *client) silent() {
	c.w.Helper()
	synctest.Wait()
	select {
	case f, open := <-c.frames:
		if !open {
			c.w.Fatalf("the socket ended with %v", c.end)
		}
		c.w.Fatalf("got %s, want nothing", f.raw)
	default:
	}
}

// closed checks that the next thing is that the server closes, and says why.
func (c *client) closed(code int, reason string) {
	c.w.Helper()
	select {
	case f, open := <-c.frames:
		if open {
			c.w.Fatalf("waiting for the end: got %s", f.raw)
		}
	case <-time.After(patience):
		c.w.Fatalf("waiting for the end with %d %s: nothing came", code, reason)
	}
	end, isClose := errors.AsType[*websocket.CloseError](c.end)
	if !isClose || end.Code != code || end.Text != reason {
		c.w.Fatalf("the socket ended with %v, want close %d %s", c.end, code, reason)
	}
}

// send sends a text frame.
func (c *client) send(text string) {
	c.w.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.w.Fatalf("send %.200s: %v", text, err)
	}
}

// auth sends a token in a frame.
func (c *client) auth(token string) {
	c.w.Helper()
	c.send(`{"type":"auth","token":"` + token + `"}`)
}

// sendRaw sends bytes below the frames, for as long as the server takes them.
func (c *client) sendRaw(p []byte) {
	_ = c.NetConn().SetWriteDeadline(time.Time{}) // the library leaves that of its last pong
	_, _ = c.NetConn().Write(p)
}

// after is the query that resumes.
func after(cursor string) string { return "after=" + url.QueryEscape(cursor) }

// browse makes a handshake as a page does, with header lines as they are.
func (w *world) browse(lines ...string) *client {
	w.Helper()
	header := make(http.Header)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		header[http.CanonicalHeaderKey(name)] = append(header[http.CanonicalHeaderKey(name)], value)
	}
	return w.dial(handshake{header: header, origin: page})
}

func ownerOf(user string) hub.Owner { return hub.Owner(user) }

func unmarshal(t *testing.T, data []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// browseAt makes a handshake as a page does, with a query and one header line.
func (w *world) browseAt(query, line string) *client {
	w.Helper()
	name, value, _ := strings.Cut(line, ": ")
	return w.dial(handshake{query: query, header: http.Header{name: {value}}})
}
