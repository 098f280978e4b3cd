package api

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/olahol/melody"
)

const (
	// pingEvery keeps the connection alive through proxies, most of which cut what is silent for 60 seconds.
	pingEvery = 25 * time.Second
	// pongLimit is how long a client may be silent, pongs included.
	pongLimit = 60 * time.Second
	// writeLimit is how long one frame may take to be written. A client that does not read for so long is cut off: within
	// ten seconds, all told.
	writeLimit = 8 * time.Second
	// slowAfter is how long one frame may take for the client to be thought of as one that reads. If it takes longer, and
	// is written after all, the client is told to come back with its cursor.
	slowAfter = 5 * time.Second
	// pongWithin is how long the answer to a ping may wait for the socket.
	pongWithin = time.Second
)

// nobody is the request of every WebSocket, once it is one: see socket.opened.
var nobody = &http.Request{}

func newMelody(limits Limits) *melody.Melody {
	m := melody.New()
	m.Config.MessageBufferSize = 0 // the outbox writes
	m.Upgrader.Subprotocols = []string{subprotocol}
	m.Upgrader.HandshakeTimeout = limits.HeaderTimeout
	// Each connection has a buffer for reading: what clients send is small, and rare. One for writing it never has: loads
	// are written past the library, see wire, and pongs and close frames need none.
	m.Upgrader.ReadBufferSize, m.Upgrader.WriteBufferSize, m.Upgrader.WriteBufferPool = 256, 4096, new(sync.Pool)
	// Compression stays off: its window costs each connection more memory than everything else together.
	m.Upgrader.EnableCompression = false
	m.HandleConnect(func(s *melody.Session) { socketOf(s).opened(s) })
	m.HandleDisconnect(func(s *melody.Session) { socketOf(s).gone() })
	return m
}

// socketOf finds the socket by the connection below it. melody's own way, a map for each session, costs more than a
// third of a kilobyte.
func socketOf(s *melody.Session) *socket {
	return s.WebsocketConnection().NetConn().(*wire).socket //nolint:errcheck // takeOver alone makes connections for melody
}

// serveSocket makes a registered connection a WebSocket, and has a goroutine of its own serve it until it ends: that of
// net/http, which returns, would keep the request, its buffers and a large stack for as long as the socket lives.
func (s *Server) serveSocket(c *gin.Context, conn *connection) {
	t := newSocket(conn)
	stub, err := t.wire.takeOver(c.Writer)
	if err != nil {
		t.gone()
		s.unregister(conn)
		s.log.Debug("no upgrade", "err", err)
		return
	}
	request := upgradeOf(c.Request)
	go func() { // Run waits for it: the connection is registered
		defer s.unregister(conn)
		defer t.gone() // melody has called it, unless something went wrong
		defer func() { t.survived(recover()) }()
		if err := s.melody.HandleRequest(stub, request); err != nil {
			s.log.Debug("no upgrade", "err", err)
		}
	}()
}

// upgradeOf returns what melody has to know of a request.
func upgradeOf(r *http.Request) *http.Request {
	header := make(http.Header)
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Version", "Sec-Websocket-Key", "Sec-Websocket-Protocol"} {
		if values, ok := r.Header[name]; ok {
			header[name] = values
		}
	}
	return &http.Request{Method: r.Method, Header: header}
}

// taken is the ResponseWriter of a connection that was taken over already: the library takes it over, and writes to the
// connection itself.
type taken struct {
	wire     *wire
	buffered *bufio.ReadWriter
}

// Hijack implements http.Hijacker.
func (t *taken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	buffered := t.buffered
	t.buffered = nil // it is large
	if buffered == nil {
		return nil, nil, errors.New("the connection was taken over before")
	}
	return t.wire, buffered, nil
}

// Header implements http.ResponseWriter.
func (t *taken) Header() http.Header { return http.Header{} }

// Write implements http.ResponseWriter. It is called to refuse a handshake that was looked at before, and so never.
func (t *taken) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter; see Write.
func (t *taken) WriteHeader(int) {}
