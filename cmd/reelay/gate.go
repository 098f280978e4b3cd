package main

import (
	"errors"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// gate refuses bad tokens, and good ones that were revoked. While it is not known what was revoked it refuses all of
// them, as nobody can be served then in any case: it is read from where events are.
type gate struct {
	*auth.Verifier

	denied *auth.Denylist
	loaded func() bool
}

// Verify returns whose token it is.
func (g gate) Verify(token string) (auth.Principal, error) {
	principal, err := g.Verifier.Verify(token)
	if err != nil {
		return auth.Principal{}, err
	}
	return principal, g.Check(principal)
}

// Check returns an error if the principal was revoked.
func (g gate) Check(principal auth.Principal) error {
	if !g.loaded() {
		return hub.ErrUnavailable
	}
	return g.denied.Check(principal)
}

// errRevocationsUnread is why a replica that hears of events lets nobody in yet.
var errRevocationsUnread = errors.New("what was revoked has not been read yet")

// Ready returns why no token can be accepted now, if none can.
func (g gate) Ready() error {
	if !g.loaded() {
		return errors.Join(g.Verifier.Ready(), errRevocationsUnread)
	}
	return g.Verifier.Ready()
}
