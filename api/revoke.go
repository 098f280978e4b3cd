package api

import (
	"maps"
	"slices"

	"github.com/reelay/reelay/auth"
)

// Revoke ends connections of a user or a token, after what was revoked is refused by the Verifier: so a connection that
// is being opened is either refused there, or found here, or asks again once it is registered; see stillGood. It does
// not block. Exactly one of user and tokenID is not empty.
func (s *Server) Revoke(user, tokenID string) {
	s.mu.Lock()
	connections := slices.Collect(maps.Keys(s.connections))
	s.mu.Unlock()
	for _, c := range connections {
		p, open := c.principalNow()
		if open && (user != "" && p.User == user || tokenID != "" && p.TokenID == tokenID) {
			s.tasks.Go(func() { c.close(errRevoked) }) // some client may not read
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
