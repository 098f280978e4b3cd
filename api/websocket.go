package api

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/olahol/melody"

	"github.com/reelay/reelay/auth"
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
	// connectionKey is where a melody session keeps its connection.
	connectionKey = "connection"
)

func newMelody(limits Limits) *melody.Melody {
	m := melody.New()
	m.Config.PingPeriod = pingEvery
	m.Config.PongWait = pongLimit
	m.Config.WriteWait = writeLimit
	m.Config.MaxMessageSize = limits.FrameSize
	m.Config.MessageBufferSize = inFlightMost
	m.Upgrader.Subprotocols = []string{subprotocol}
	m.Upgrader.HandshakeTimeout = limits.HeaderTimeout
	// A frame larger than the buffer for writing takes a second system call. It is used while writing only.
	m.Upgrader.ReadBufferSize, m.Upgrader.WriteBufferSize, m.Upgrader.WriteBufferPool = 1024, 4096, new(sync.Pool)
	// Compression stays off: its window costs each connection more memory than everything else together.
	m.Upgrader.EnableCompression = false
	m.HandleConnect(func(s *melody.Session) { connectionOf(s).connected(s) })
	m.HandleMessage(func(s *melody.Session, message []byte) { connectionOf(s).receive(message) })
	m.HandleMessageBinary(func(s *melody.Session, _ []byte) { connectionOf(s).close(errBinary) })
	m.HandleSentMessage(func(s *melody.Session, _ []byte) { connectionOf(s).sent() })
	m.HandlePong(func(s *melody.Session) { connectionOf(s).admit() })
	m.HandleDisconnect(func(s *melody.Session) { connectionOf(s).disconnected() })
	m.HandleError(func(s *melody.Session, err error) { connectionOf(s).failed(err) })
	return m
}

func connectionOf(s *melody.Session) *connection {
	return s.MustGet(connectionKey).(*connection) //nolint:errcheck // upgrade alone puts something there
}

// events answers GET /events.
func (s *Server) events(c *gin.Context) {
	r := c.Request
	if r.ContentLength != 0 {
		errBody.write(c) // see bodiless
		return
	}
	if lines := r.Header.Values("Sec-WebSocket-Protocol"); len(lines) > 1 {
		// RFC 6455 allows it, and the library looks at the first line alone.
		r.Header.Set("Sec-WebSocket-Protocol", strings.Join(lines, ", "))
	}
	if bad := checkHandshake(r); bad != nil {
		bad.write(c)
		return
	}
	if !originAllowed(r, s.origins) {
		s.refuse(c, errOrigin)
		return
	}
	q, values, err := parseQuery(r.URL.RawQuery, s.limits.Videos)
	if err != nil {
		s.deny(c, err)
		return
	}
	leave, l := s.admission.enter(clientAddress(c.ClientIP(), len(s.proxies) > 0))
	if l != "" {
		s.deny(c, s.reached(l))
		return
	}
	conn := newConnection(s, q)
	conn.leaves = append(conn.leaves, leave)
	principal, err := s.principalOf(r, values)
	switch {
	case errors.Is(err, auth.ErrNoToken) && (isBrowser(r) || offersSubprotocol(r)): // it may come in a frame
	case err != nil:
		conn.disconnected()
		s.deny(c, err)
		return
	default:
		if err := conn.open(r.Context(), principal); err != nil {
			if context.Cause(r.Context()) == errRestart { //nolint:errorlint // it is what Run gave, unwrapped
				err = errRestart
			}
			conn.disconnected()
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

// refuse answers with a problem document.
func (s *Server) refuse(c *gin.Context, err error) {
	s.refused(err)
	problemOf(err).write(c)
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
	if err := conn.stillGood(); err != nil { // it may have been revoked before it could be found
		conn.disconnected()
		s.deny(c, err)
		return
	}
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	err := s.melody.HandleRequestWithKeys(hijacker{c.Writer, conn.wire}, c.Request, map[string]any{connectionKey: conn})
	if err != nil {
		conn.disconnected()
		s.log.Debug("no upgrade", "err", err)
	}
	c.Abort()
}
