package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/reelay/reelay/auth"
)

// way is how a client is served. The request itself says which; see wayOf.
type way string

const (
	bySocket way = "websocket"
	byStream way = "sse"
	byPage   way = "json"
)

// wayOf tells how a client wants to be served. A handshake that lost its Upgrade to a proxy is one still: its client is
// better off with an error than with JSON.
func wayOf(r *http.Request) way {
	for _, line := range r.Header.Values("Upgrade") {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "websocket") {
				return bySocket
			}
		}
	}
	switch {
	case r.Header.Get("Sec-WebSocket-Key") != "":
		return bySocket
	case prefersStream(r.Header.Values("Accept")):
		return byStream
	}
	return byPage
}

// check looks at what the way asks of a request.
func (w way) check(r *http.Request) *problem {
	switch {
	case w == bySocket:
		return checkHandshake(r)
	case w == byStream && !r.ProtoAtLeast(1, 1):
		return errVersion
	}
	return nil
}

// mayAuthenticateLater tells whether the client may send its token in a frame.
func (w way) mayAuthenticateLater(r *http.Request) bool {
	return w == bySocket && (isBrowser(r) || offersSubprotocol(r))
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
	way := wayOf(r)
	if bad := way.check(r); bad != nil {
		bad.write(c)
		return
	}
	if !originAllowed(r, s.origins) {
		s.refused(errOrigin)
		errOrigin.write(c)
		return
	}
	q, values, err := parseQuery(r.URL.RawQuery, s.limits.Videos)
	if err == nil && way == byStream {
		err = q.resume(r.Header.Get("Last-Event-ID"))
	}
	if err != nil {
		s.deny(c, way, err)
		return
	}
	stay, l := s.admission.enter(clientAddress(c.ClientIP(), len(s.proxies) > 0))
	if l != "" {
		s.suspectProxy(r, l)
		s.deny(c, way, s.reached(l))
		return
	}
	principal, err := s.principalOf(r, values)
	switch later := errors.Is(err, auth.ErrNoToken) && way.mayAuthenticateLater(r); {
	case err != nil && !later:
		s.admission.leave(&stay)
		s.deny(c, way, err)
	case way == byPage:
		defer s.admission.leave(&stay)
		s.page(c, q, principal, &stay)
	default:
		conn := newConnection(s, q)
		conn.stay = stay
		if later {
			s.serve(c, way, conn)
			return
		}
		if err := conn.open(r.Context(), principal); err != nil {
			conn.disconnected()
			s.deny(c, way, conn.refusal(leaving(r.Context(), err)))
			return
		}
		s.serve(c, way, conn)
	}
}

// leaving returns why a request cannot be served: err, unless that is because the server goes away.
func leaving(ctx context.Context, err error) error {
	if p, ok := errors.AsType[*problem](context.Cause(ctx)); ok {
		return p
	}
	return err
}

// serve answers a client that is let in, and serves it until it ends.
func (s *Server) serve(c *gin.Context, way way, conn *connection) {
	if !s.register(conn) {
		conn.disconnected()
		s.refuse(c, way, errRestart)
		return
	}
	if err := conn.stillGood(); err != nil { // it may have been revoked before it could be found
		conn.disconnected()
		s.unregister(conn)
		s.deny(c, way, err)
		return
	}
	s.metrics.requests.WithLabelValues(string(way)).Inc()
	serve := s.serveSocket
	if way == byStream {
		serve = s.serveStream
	}
	serve(c, conn)
	c.Abort()
}

// deny refuses a connection, and counts it: by HTTP, or, where that cannot be seen, by letting it in and sending it away.
func (s *Server) deny(c *gin.Context, way way, err error) {
	p := problemOf(err)
	s.refused(err)
	if way == bySocket && isBrowser(c.Request) {
		conn := newConnection(s, query{})
		conn.denied = p
		s.serve(c, way, conn)
		return
	}
	s.refuse(c, way, p)
}

// refuse answers with a problem, as its client can bear it.
func (s *Server) refuse(c *gin.Context, way way, p *problem) {
	if way == byStream && mustComeBack(c.Request, p) {
		refuseStream(c, p)
		return
	}
	p.write(c)
}

// refused counts a refusal, and says in the log what the client is not told.
func (s *Server) refused(err error) {
	p := problemOf(err)
	s.metrics.refused.WithLabelValues(p.Code).Inc()
	s.log.Debug("refused", "code", p.Code, "err", err)
}
