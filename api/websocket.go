package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/websocket"
	"github.com/olahol/melody"

	"github.com/reelay/reelay/auth"
)

const (
	// pingEvery keeps the connection alive through proxies, most of which cut what is silent for 60 seconds.
	pingEvery = 25 * time.Second
	// pongLimit is how long a client may be silent, pongs included.
	pongLimit = 60 * time.Second
	// writeLimit is how long one frame may take to be written. A client that does not read for so long is cut off.
	writeLimit = 10 * time.Second
	// frameMost is the largest frame a client may send: a token of 8 KiB in an auth frame, and some.
	frameMost = 12 << 10
	// connectionKey is where a melody session keeps its connection.
	connectionKey = "connection"
)

func newMelody() *melody.Melody {
	m := melody.New()
	m.Config.PingPeriod = pingEvery
	m.Config.PongWait = pongLimit
	m.Config.WriteWait = writeLimit
	m.Config.MaxMessageSize = frameMost
	m.Config.MessageBufferSize = inFlightMost
	m.Upgrader.Subprotocols = []string{subprotocol}
	m.Upgrader.ReadBufferSize, m.Upgrader.WriteBufferSize = 1024, 1024
	// Compression stays off: its window costs each connection more memory than everything else together.
	m.Upgrader.EnableCompression = false
	m.HandleConnect(func(s *melody.Session) { connectionOf(s).connected(s) })
	m.HandleMessage(func(s *melody.Session, message []byte) { connectionOf(s).receive(message) })
	m.HandleMessageBinary(func(s *melody.Session, _ []byte) { connectionOf(s).close(errBinary) })
	m.HandleSentMessage(func(s *melody.Session, _ []byte) { connectionOf(s).sent() })
	m.HandleDisconnect(func(s *melody.Session) { connectionOf(s).disconnected() })
	m.HandleError(func(s *melody.Session, err error) { connectionOf(s).failed(err) })
	return m
}

func connectionOf(s *melody.Session) *connection { return s.MustGet(connectionKey).(*connection) }

// events answers GET /events.
func (s *Server) events(c *gin.Context) {
	r := c.Request
	if r.ContentLength != 0 {
		errBody.write(c)
		return
	}
	if bad := checkHandshake(r); bad != nil {
		bad.write(c)
		return
	}
	if !originAllowed(r, s.origins) {
		s.metrics.refused.WithLabelValues(errOrigin.Code).Inc()
		errOrigin.write(c)
		return
	}
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		s.deny(c, err)
		return
	}
	conn := newConnection(s, q)
	token, _, err := auth.BearerFromHeader(r.Header)
	switch {
	case errors.Is(err, auth.ErrNoToken): // it may come in a frame
	case err != nil:
		s.deny(c, err)
		return
	default:
		principal, err := s.verifier.Verify(token)
		if err != nil {
			s.deny(c, err)
			return
		}
		if err := conn.open(r.Context(), principal); err != nil {
			s.deny(c, conn.refusal(err))
			return
		}
	}
	s.upgrade(c, conn)
}

// deny refuses a connection: by HTTP, or, where that cannot be seen, by letting it in and closing it with a code.
func (s *Server) deny(c *gin.Context, err error) {
	p := problemOf(err)
	s.refused(err)
	if !isBrowser(c.Request) {
		p.write(c)
		return
	}
	conn := newConnection(s, query{})
	conn.denied = p
	s.upgrade(c, conn)
}

// refused counts a refusal, and says in the log what the client is not told.
func (s *Server) refused(err error) {
	p := problemOf(err)
	s.metrics.refused.WithLabelValues(p.Code).Inc()
	s.log.Debug("refused", "code", p.Code, "err", err)
}

// upgrade makes the connection a WebSocket and serves it until it ends.
func (s *Server) upgrade(c *gin.Context, conn *connection) {
	if !s.register(conn) {
		conn.disconnected()
		errRestart.write(c)
		return
	}
	defer s.unregister(conn)
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	err := s.melody.HandleRequestWithKeys(c.Writer, c.Request, map[string]any{connectionKey: conn})
	if err != nil {
		conn.disconnected()
		s.log.Debug("no upgrade", "err", err)
	}
	c.Abort()
}

// failed is told by melody why a socket ends.
func (c *connection) failed(err error) {
	var closed *websocket.CloseError
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) || errors.As(err, &closed) {
		return
	}
	if errors.Is(err, melody.ErrMessageBufferFull) {
		// Never seen: no more frames are in flight than the buffer holds. One would be lost, so the cursor has to bring it back.
		c.log.Error("a frame was dropped, closing the connection", "err", err)
		c.server.tasks.Go(func() { c.close(errInternal) }) // c.mu is held by whoever writes
		return
	}
	c.log.Debug("connection lost", "err", err)
}
