package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// carrier is one way to follow events, as a client that uses it does.
type carrier struct {
	name string
	// open makes the request. Either the follower or the answer is nil. What comes is not read before the follower's read.
	open func(*world, handshake) (*follower, *answer)
	// stays says that a client is told things while it is there: ready, expiring, that events cannot be read.
	stays bool
}

var carriers = []carrier{
	{"WebSocket", openSocket, true},
	{"event stream over HTTP 1.1", openStream, true},
	{"event stream over HTTP 2", openMultiplexed, true},
	{"long poll", openPoll, false},
}

// follower is a client that follows events in some way.
type follower struct {
	w       *world
	carrier carrier
	read    func() // reads all there is to come, closes frames, and sets end
	leave   func()
	frames  chan frame
	end     string // the code by which the server sent it away, or what came instead
}

// overAll runs a test for each carrier.
func overAll(t *testing.T, test func(*world, carrier), prepare ...func(*world)) {
	t.Helper()
	for _, c := range carriers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) { test(w, c) }, prepare...)
		})
	}
}

// follow connects, and reads what comes.
func (w *world) follow(c carrier, h handshake) *follower {
	w.Helper()
	f := w.followUnread(c, h)
	go f.read()
	return f
}

// followUnread connects, and reads nothing.
func (w *world) followUnread(c carrier, h handshake) *follower {
	w.Helper()
	if h.user != "" {
		h.token, h.user = w.token(h.user), ""
	}
	f, refusal := c.open(w, h)
	if refusal != nil {
		w.Fatalf("connect with %+v: refused with %s\n%s", h, refusal.Status, refusal.body)
	}
	f.w, f.carrier = w, c
	w.Cleanup(f.leave)
	return f
}

// next takes the next frame, which is of a type.
func (f *follower) next(kind string) frame {
	f.w.Helper()
	select {
	case got, open := <-f.frames:
		switch {
		case !open:
			f.w.Fatalf("waiting for %s: it ended with %s", kind, f.end)
		case got.Type != kind:
			f.w.Fatalf("waiting for %s: got %s %s", kind, got.Type, got.raw)
		}
		return got
	case <-time.After(2 * time.Minute):
		f.w.Fatalf("waiting for %s: nothing came", kind)
	}
	return frame{}
}

// ready takes the frame ready, of those who get one.
func (f *follower) ready(resumed bool) {
	f.w.Helper()
	if f.carrier.stays {
		if got := f.next("reelay.ready").field("resumed"); got != fmt.Sprint(resumed) {
			f.w.Fatalf("it is told resumed %s, want %v", got, resumed)
		}
	}
}

// events takes so many events, which follow a sequence, and returns the last one's cursor.
func (f *follower) events(after, n int) string {
	f.w.Helper()
	id := ""
	for i := after + 1; i <= after+n; i++ {
		if id = f.next("video.updated").ID; id != fmt.Sprintf("k3f9a2bq.%d", i) {
			f.w.Fatalf("got event %s, want %d", id, i)
		}
	}
	return id
}

// ended checks that the next thing is that the server sends it away.
func (f *follower) ended(code string) {
	f.w.Helper()
	select {
	case got, open := <-f.frames:
		if open && got.Type == "reelay.error" && got.field("code") == code { // a stream's way to say it
			f.ended(code)
			return
		}
		if open {
			f.w.Fatalf("waiting for the end with %s: got %s", code, got.raw)
		}
	case <-time.After(2 * time.Minute):
		f.w.Fatalf("waiting for the end with %s: nothing came", code)
	}
	if f.end != code {
		f.w.Fatalf("it ended with %q, want %s", f.end, code)
	}
}

// silent checks that there is no frame to take. A poll that comes back empty goes on by itself.
func (f *follower) silent() {
	f.w.Helper()
	synctest.Wait()
	select {
	case got, open := <-f.frames:
		f.w.Fatalf("got %s (open: %v, end: %s), want nothing", got.raw, open, f.end)
	default:
	}
}

func openSocket(w *world, h handshake) (*follower, *answer) {
	c, refusal := w.try(h)
	if refusal != nil {
		return nil, refusal
	}
	f := &follower{frames: c.frames, leave: func() { _ = c.Close() }}
	f.read = func() {
		c.readWith(func() {
			f.end = fmt.Sprint(c.end)
			if end, ok := errors.AsType[*websocket.CloseError](c.end); ok {
				f.end = end.Text
			}
		})
	}
	return f, nil
}

// requestFor makes the request of a handshake that is no WebSocket's.
func (h handshake) requestFor(ctx context.Context, w *world, accept string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://reelay.test/events?"+h.query, nil)
	if err != nil {
		w.Fatalf("make a request: %v", err)
	}
	if h.header != nil {
		r.Header = h.header.Clone()
	}
	r.Header.Set("Accept", accept)
	if h.user != "" {
		h.token = w.token(h.user)
	}
	if h.token != "" {
		r.Header.Set("Authorization", "Bearer "+h.token)
	}
	if h.origin != "" {
		r.Header.Set("Origin", h.origin)
	}
	return r
}

func refusalOf(w *world, response *http.Response) *answer {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatalf("read a refusal: %v", err)
	}
	return &answer{response, string(body)}
}

// openStream speaks HTTP/1.1 on a connection of its own, so that nothing reads ahead.
func openStream(w *world, h handshake) (*follower, *answer) {
	conn, err := w.dialer(context.Background(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	r := h.requestFor(context.Background(), w, "text/event-stream")
	if err := r.Write(conn); err != nil {
		w.Fatalf("send a request: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), r)
	if err != nil {
		w.Fatalf("read an answer: %v", err)
	}
	if response.StatusCode != http.StatusOK {
		defer conn.Close()
		return nil, refusalOf(w, response)
	}
	return streaming(w, response, func() { _ = conn.Close() }), nil
}

func openMultiplexed(w *world, h handshake) (*follower, *answer) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols, DialContext: w.dialer,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10},
	}
	ctx, cancel := context.WithCancel(context.Background())
	leave := func() { cancel(); transport.CloseIdleConnections() }
	response, err := transport.RoundTrip(h.requestFor(ctx, w, "text/event-stream"))
	if err != nil {
		w.Fatalf("make a request: %v", err)
	}
	if response.StatusCode != http.StatusOK {
		defer leave()
		return nil, refusalOf(w, response)
	}
	if response.ProtoMajor != 2 {
		w.Fatalf("got an answer by %s, want HTTP/2", response.Proto)
	}
	return streaming(w, response, leave), nil
}

// streaming reads an answer as an EventSource does, and checks what holds for all of them.
func streaming(w *world, response *http.Response, leave func()) *follower {
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := response.Header.Get(name); got != want {
			w.Errorf("got %s %q, want %q", name, got, want)
		}
	}
	f := &follower{frames: make(chan frame, 1<<14), leave: leave}
	f.read = func() {
		defer close(f.frames)
		last := frame{}
		end := readStream(response.Body, func(e streamed) {
			got := parse([]byte(e.data))
			moved := got.Cursor
			if got.Source == "reelay" {
				moved = got.ID
			}
			if moved != e.id || e.event != "" {
				w.Errorf("an event of type %q has id %q, want no type and %q: %s", e.event, e.id, moved, e.data)
			}
			f.frames <- got
			last = got
		})
		f.end = fmt.Sprint(end)
		switch {
		case errors.Is(end, io.EOF):
			f.end = "a clean end"
		case last.Type == "reelay.error":
			f.end = last.field("code")
		}
	}
	return f
}

// openPoll asks for page after page.
func openPoll(w *world, h handshake) (*follower, *answer) {
	if h.user != "" {
		h.token, h.user = w.token(h.user), ""
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{frames: make(chan frame, 1<<14), leave: cancel}
	query, err := url.ParseQuery(h.query)
	if err != nil {
		w.Fatalf("the query: %v", err)
	}
	cursor, response, err := w.poll(ctx, h, query)
	if err != nil {
		w.Fatalf("poll: %v", err)
	}
	if response.StatusCode >= 400 {
		return nil, response
	}
	f.read = func() {
		defer close(f.frames)
		for {
			pageFrames(w, response.body, func(got frame) { f.frames <- got })
			if cursor != "" {
				query.Set("after", cursor)
			}
			query.Del("snapshot")
			query.Set("wait", "50")
			cursor, response, err = w.poll(ctx, h, query)
			switch {
			case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
				// Its server has left, before it was asked or before it could look at the request: another one would be found.
				f.end = "restart"
				return
			case err != nil:
				f.end = err.Error()
				return
			case response.StatusCode >= 400:
				var document struct{ Code string }
				_ = json.Unmarshal([]byte(response.body), &document)
				f.end = document.Code
				return
			}
		}
	}
	return f, nil
}

// poll asks for a page, on a connection of its own, and returns the cursor to go on from.
func (w *world) poll(ctx context.Context, h handshake, query url.Values) (string, *answer, error) {
	conn, err := w.dialer(ctx, "", "")
	if err != nil {
		return "", nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	h.query = query.Encode()
	r := h.requestFor(ctx, w, "*/*")
	if err := r.Write(conn); err != nil {
		return "", nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return "", nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", nil, err
	}
	return response.Header.Get("Reelay-Cursor"), &answer{response, string(body)}, nil
}

// jsonPage is a page as a client reads it.
type jsonPage struct {
	Events    []json.RawMessage
	Cursor    string
	More      *bool
	Reset     *bool
	Reason    string
	Snapshot  json.RawMessage
	Truncated bool
	Unknown   []string
}

// pageFrames gives what a page says as the frames that say so elsewhere.
func pageFrames(w *world, body string, take func(frame)) {
	if body == "" {
		return
	}
	var page jsonPage
	if err := json.Unmarshal([]byte(body), &page); err != nil || page.More == nil || page.Reset == nil || page.Events == nil {
		w.Errorf("the page %s: %v", body, err)
		return
	}
	if page.Unknown != nil {
		data, _ := json.Marshal(map[string]any{"unknown": page.Unknown})
		take(frame{Type: "reelay.subscribed", Data: data})
	}
	if *page.Reset {
		take(frame{Type: "reelay.reset", Data: json.RawMessage(`{"reason":"` + page.Reason + `"}`)})
	}
	if page.Snapshot != nil && string(page.Snapshot) != "null" {
		take(frame{Type: "reelay.snapshot", Cursor: page.Cursor, Data: json.RawMessage(`{"videos":` + string(page.Snapshot) + `}`)})
	}
	for _, event := range page.Events {
		take(parse(event))
	}
}

// streamed is an event of a stream.
type streamed struct{ id, event, data string }

// readStream reads a stream as WHATWG HTML section 9.2.6 says, but for one thing: id is that of the event alone, and not
// the last one seen. It returns why the stream ended.
func readStream(body io.Reader, take func(streamed)) error {
	reader := bufio.NewReader(body)
	var event streamed
	var data []string
	for {
		line, err := readLine(reader)
		if err != nil {
			return err
		}
		if line == "" {
			if data != nil {
				event.data = strings.Join(data, "\n")
				take(event)
			}
			event, data = streamed{}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data = append(data, value)
		case "id":
			event.id = value
		case "event":
			event.event = value
		}
	}
}

// readLine reads a line that CR, LF or both end.
func readLine(reader *bufio.Reader) (string, error) {
	var line strings.Builder
	for {
		b, err := reader.ReadByte()
		switch {
		case err != nil:
			return "", err
		case b == '\n':
			return line.String(), nil
		case b == '\r':
			if next, err := reader.Peek(1); err == nil && next[0] == '\n' {
				_, _ = reader.ReadByte()
			}
			return line.String(), nil
		}
		line.WriteByte(b)
	}
}
