package api

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/reelay/reelay/auth"
)

const (
	// ticketLife is how long a ticket is good for: from the page's request for it to its use.
	ticketLife = 30 * time.Second
	// ticketBytes is the size of a ticket before it is written as text: nobody guesses 256 bits.
	ticketBytes = 32
	// ticketLimit is how long the store may take.
	ticketLimit = 2 * time.Second
)

// TicketStore keeps tickets for all replicas. Its methods are safe for concurrent use.
type TicketStore interface {
	// Put keeps value under id for ttl.
	Put(ctx context.Context, id string, value []byte, ttl time.Duration) error
	// Take removes and returns what Put kept under id: once, whoever asks, on whichever replica. It returns nil if there
	// is nothing.
	Take(ctx context.Context, id string) ([]byte, error)
}

// ticket is what a ticket stands for. It holds no token.
type ticket struct {
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
	Issued  time.Time `json:"issued,omitzero"`
	TokenID string    `json:"token_id,omitempty"`
	// Origin is that of the page which asked for it; empty for a program.
	Origin string `json:"origin,omitempty"`
}

// createTicket answers POST /tickets: a browser's EventSource can set no header, so its URL carries a ticket, which is
// worth nothing once used.
func (s *Server) createTicket(c *gin.Context) {
	r := c.Request
	if r.ContentLength != 0 {
		errBody.write(c) // see bodiless
		return
	}
	if !originAllowed(r, s.origins) {
		s.deny(c, byPage, errOrigin)
		return
	}
	principal, err := s.bearer(r)
	if err != nil {
		s.deny(c, byPage, err)
		return
	}
	if l := s.admission.allow(principal.User); l != "" {
		s.deny(c, byPage, s.reached(l))
		return
	}
	value, err := json.Marshal(ticket{
		User: principal.User, Expires: principal.Expires, Issued: principal.Issued, TokenID: principal.TokenID, Origin: r.Header.Get("Origin"),
	})
	if err != nil {
		panic(fmt.Sprintf("a ticket cannot be encoded: %v", err)) // strings and dates: cannot happen
	}
	id := newTicket()
	ctx, cancel := context.WithTimeout(r.Context(), ticketLimit)
	defer cancel()
	if err := s.tickets.Put(ctx, id, value, ticketLife); err != nil {
		s.log.WarnContext(ctx, "a ticket cannot be kept", "err", err)
		s.deny(c, byPage, errTicketsAway)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusCreated, struct {
		Ticket  string    `json:"ticket"`
		Expires time.Time `json:"expires"`
	}{id, time.Now().UTC().Add(ticketLife).Truncate(time.Second)})
}

// bearer verifies who asks for a ticket. The subprotocol has no meaning outside of a handshake.
func (s *Server) bearer(r *http.Request) (auth.Principal, error) {
	token, err := s.headerToken(r)
	if err != nil {
		return auth.Principal{}, err
	}
	return s.verifier.Verify(token)
}

// redeem exchanges a ticket for the principal it was made for.
func (s *Server) redeem(r *http.Request, id string) (auth.Principal, error) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(id); err != nil || len(raw) != ticketBytes {
		return auth.Principal{}, errInvalidTicket
	}
	ctx, cancel := context.WithTimeout(r.Context(), ticketLimit)
	defer cancel()
	value, err := s.tickets.Take(ctx, id)
	if err != nil {
		s.log.WarnContext(ctx, "a ticket cannot be looked up", "err", err)
		return auth.Principal{}, errTicketsAway
	}
	if value == nil {
		return auth.Principal{}, errInvalidTicket
	}
	var t ticket
	if err := json.Unmarshal(value, &t); err != nil {
		return auth.Principal{}, fmt.Errorf("read a ticket: %w", errors.Join(err, errInvalidTicket))
	}
	if !samePage(r, t.Origin) {
		return auth.Principal{}, errInvalidTicket
	}
	principal := auth.Principal{User: t.User, Expires: t.Expires, Issued: t.Issued, TokenID: t.TokenID}
	if time.Until(t.Expires)+s.verifier.Leeway() <= 0 {
		return auth.Principal{}, auth.ErrExpiredToken
	}
	return principal, s.verifier.Check(principal)
}

// samePage tells whether a request comes from a page of origin, or from no page where origin is empty. A browser leaves
// Origin away when it gets something from the page's own host, and says so in Sec-Fetch-Site.
func samePage(r *http.Request, origin string) bool {
	if from := r.Header.Get("Origin"); from != "" || !fromSameOrigin(r) {
		return strings.EqualFold(from, origin)
	}
	page, err := url.Parse(origin)
	return err == nil && strings.EqualFold(page.Host, r.Host)
}

func newTicket() string {
	raw := make([]byte, ticketBytes)
	_, _ = rand.Read(raw) // never fails, says its documentation
	return base64.RawURLEncoding.EncodeToString(raw)
}
