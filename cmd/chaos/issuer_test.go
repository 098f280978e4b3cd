package main

import (
	"context"
	"errors"
	"testing"

	"github.com/reelay/reelay/auth"
)

func TestIssuer_ItsTokensAreGood(t *testing.T) {
	t.Parallel()
	i, err := newIssuer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.close)
	old := i.signs
	// verify checks a token as a replica does that starts now.
	verify := func(token string) error {
		verifier, err := auth.NewVerifier(auth.Config{JWKSURL: "http://" + i.address() + keySetPath, JWKSInsecure: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- verifier.Run(ctx) }() // waited for below
		principal, err := verifier.Verify(token)
		cancel()
		if failed := <-done; failed != nil {
			t.Fatal(failed)
		}
		if err == nil && principal.User != "alice" {
			t.Errorf("got a token of %q, want alice's", principal.User)
		}
		return err
	}
	if err := verify(i.mint("alice")); err != nil {
		t.Errorf("the first key: %v", err)
	}
	fresh := i.publish()
	if err := errors.Join(verify(i.mint("alice")), verify(fresh.mint("alice"))); err != nil {
		t.Errorf("a new key beside the old one: %v", err)
	}
	if err := verify(i.secretly().mint("alice")); err == nil {
		t.Error("a key that was never published is accepted")
	}
	i.adopt(fresh)
	i.publish()
	if err := verify(i.mint("alice")); err != nil {
		t.Errorf("the key that signs: %v", err)
	}
	if err := verify(old.mint("alice")); err == nil {
		t.Error("a key that is not published any more is accepted")
	}
}
