package api

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/reelay/reelay/auth"
)

// Revoke ends connections and polls of a user or a token, after what was revoked is refused by the Verifier: so one that
// is being opened is either refused there, or found here, or asks again once it can be found; see stillGood. It does not
// block. Exactly one of user and tokenID is not empty.
func (s *Server) Revoke(user, tokenID string) {
	concerns := func(p auth.Principal) bool {
		return user != "" && p.User == user || tokenID != "" && p.TokenID == tokenID
	}
	s.mu.Lock()
	connections := slices.Collect(maps.Keys(s.connections))
	polls := slices.Collect(maps.Keys(s.polls))
	s.mu.Unlock()
	for _, c := range connections {
		if p, open := c.principalNow(); open && concerns(p) {
			c.close(errRevoked)
		}
	}
	for _, poll := range polls {
		if concerns(poll.principal) {
			poll.leave(errRevoked)
		}
	}
}

// principalNow returns the principal of the last good token, if there was one.
func (c *connection) principalNow() (p auth.Principal, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.principal, c.principal.User != ""
}

// stillGood asks again whether the connection's token was revoked: after it can be found by Revoke.
func (c *connection) stillGood() error {
	p, open := c.principalNow()
	if !open {
		return nil
	}
	return c.server.verifier.Check(p)
}

// poll is a page that is being read, and that may wait for an event.
type poll struct {
	principal auth.Principal
	leave     context.CancelCauseFunc
}

// registerPoll has Revoke find the poll until unregister is called.
func (s *Server) registerPoll(p *poll) (unregister func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls[p] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.polls, p)
	}
}

// revokedCause returns errRevoked if a poll was ended by it.
func revokedCause(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errRevoked) {
		return errRevoked
	}
	return nil
}
