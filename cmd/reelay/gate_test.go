package main

import (
	"errors"
	"testing"
	"time"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// A balancer sends clients to a replica that says it is ready: so it may not, while it would turn each of them away.
func TestGate_IsReadyWhenItLetsIn(t *testing.T) {
	t.Parallel()
	verifier, err := auth.NewVerifier(auth.Config{Secrets: []auth.Secret{auth.NewSecret(testSecret)}})
	if err != nil {
		t.Fatal(err)
	}
	loaded := false
	g := gate{verifier, auth.NewDenylist(nil), func() bool { return loaded }}
	token := sign(t, "alice", time.Hour)
	if err := g.Ready(); !errors.Is(err, errRevocationsUnread) {
		t.Errorf("before it knows what was revoked, it is ready: %v", err)
	}
	if _, err := g.Verify(token); !errors.Is(err, hub.ErrUnavailable) {
		t.Errorf("before it knows what was revoked, a token got %v, want unavailable", err)
	}
	loaded = true
	if err := g.Ready(); err != nil {
		t.Errorf("it is not ready: %v", err)
	}
	if _, err := g.Verify(token); err != nil {
		t.Errorf("a token got %v", err)
	}
}
