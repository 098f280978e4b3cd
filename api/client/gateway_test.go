package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/reelay/reelay/api/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// visit is one call of a client at the gateway.
type visit struct {
	t      *testing.T
	query  url.Values
	header http.Header
	path   string

	writer  http.ResponseWriter
	request *http.Request
	socket  *websocket.Conn
}

// script plays the gateway for one call.
type script func(v *visit)

// gateway plays one script for each call, in order. A call too many is refused for good, so that Run ends.
type gateway struct {
	t        *testing.T
	listener *pipeListener
	server   *http.Server
	playing  sync.WaitGroup

	mu      sync.Mutex
	scripts []script // guarded by mu
	calls   int      // guarded by mu
}

// inBubble runs a test against a scripted gateway with a clock and a network of its own: no delay takes any time, and a
// goroutine that is left behind fails the test.
func inBubble(t *testing.T, scripts []script, test func(t *testing.T, g *gateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, listener: newPipeListener(), scripts: scripts}
		g.server = &http.Server{Handler: g}
		served := make(chan error)
		go func() { served <- g.server.Serve(g.listener) }()
		test(t, g)
		if err := g.server.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		g.playing.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.scripts) > 0 {
			t.Errorf("%d scripts were not played: the client called %d times", len(g.scripts), g.calls)
		}
	})
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.playing.Add(1)
	defer g.playing.Done()
	g.mu.Lock()
	g.calls++
	if len(g.scripts) == 0 {
		g.mu.Unlock()
		http.Error(w, `{"code":"no_script"}`, http.StatusForbidden)
		return
	}
	play := g.scripts[0]
	g.scripts = g.scripts[1:]
	g.mu.Unlock()
	v := &visit{t: g.t, query: r.URL.Query(), header: r.Header, path: r.URL.Path, writer: w, request: r}
	play(v)
	if v.socket != nil {
		_ = v.socket.Close()
	}
}

// config is a client's configuration for this gateway.
func (g *gateway) config() client.Config {
	return client.Config{
		URL:    "http://gateway.test",
		Token:  func(context.Context) (string, error) { return "token-1", nil },
		Dialer: &websocket.Dialer{NetDialContext: g.listener.dial},
	}
}

// accept makes the call a WebSocket.
func (v *visit) accept() {
	upgrader := websocket.Upgrader{Subprotocols: []string{"reelay.v1"}}
	socket, err := upgrader.Upgrade(v.writer, v.request, nil)
	if err != nil {
		v.t.Errorf("upgrade: %v", err)
		return
	}
	if socket.Subprotocol() != "reelay.v1" {
		v.t.Errorf("subprotocol: got %q, want reelay.v1", socket.Subprotocol())
	}
	v.socket = socket
}

// ready makes the call a WebSocket that is live.
func (v *visit) ready() {
	v.accept()
	v.send(`{"id":"s1","source":"reelay/session","type":"reelay.ready","data":{"session":"s1","user":"alice","heartbeat":10,"replica":"r1"}}`)
}

func (v *visit) send(frames ...string) {
	for _, frame := range frames {
		if err := v.socket.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			v.t.Errorf("send %s: %v", frame, err)
		}
	}
}

// close ends the call with a code, and waits until the client has hung up.
func (v *visit) close(code int, reason string) {
	err := v.socket.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason))
	if err != nil {
		v.t.Errorf("close with %d: %v", code, err)
	}
	v.drain()
}

// drain reads until the call ends, and returns the code that the client ended it with; 0 if it just hung up.
func (v *visit) drain() int {
	for {
		_, _, err := v.socket.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
			return closed.Code
		}
		if err != nil {
			return 0
		}
	}
}

// read returns the next message of the client.
func (v *visit) read() string {
	_, message, err := v.socket.ReadMessage()
	if err != nil {
		v.t.Errorf("read from client: %v", err)
	}
	return string(message)
}

// answer refuses the call with a status. The header is key, value, key, value.
func (v *visit) answer(status int, body string, header ...string) {
	for i := 0; i+1 < len(header); i += 2 {
		v.writer.Header().Set(header[i], header[i+1])
	}
	v.writer.WriteHeader(status)
	_, _ = io.WriteString(v.writer, body)
}

// closing is the script of a gateway that lets the client in and then closes with a code.
func closing(code int, reason string) script {
	return func(v *visit) { v.ready(); v.close(code, reason) }
}

// event is a frame of the user's.
func event(id, subject string) string {
	return `{"specversion":"1.0","id":"` + id + `","source":"reelay","type":"video.updated","subject":"` + subject +
		`","time":"2026-11-22T10:00:00Z","data":{"processing_status":"ready"}}`
}

// pipeListener is a network of one address, in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
