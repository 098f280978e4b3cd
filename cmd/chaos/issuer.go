package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// keySetPath is where the issuer publishes its keys.
	keySetPath = "/jwks.json"
	// keptKeys is how many it publishes: the one that signs, and the one before or after it.
	keptKeys = 2
	// tokenLife is longer than any run.
	tokenLife = 3 * time.Hour
)

// issuer is who signs the clients' tokens: it publishes its public keys as a JSON Web Key Set (RFC 7517), and exchanges
// them as a good one does: a new key is published first, and signs later, when everybody has had the time to learn it.
type issuer struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{} // closed when the server has ended

	mu      sync.Mutex
	signs   signer   // guarded by mu, as all here
	keys    []signer // that are published
	counter int      // keys there ever were
}

// signer is one key.
type signer struct {
	id  string
	key ed25519.PrivateKey
}

func newIssuer(ctx context.Context) (*issuer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the issuer: %w", err)
	}
	i := &issuer{listener: listener, served: make(chan struct{})}
	i.adopt(i.publish())
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+keySetPath, i.serve)
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { // close waits for its end
		defer close(i.served)
		if err := i.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // a listener on this host does not fail
		}
	}()
	return i, nil
}

func (i *issuer) close() {
	_ = i.server.Close() // nothing is left to be told
	<-i.served
}

func (i *issuer) address() string { return i.listener.Addr().String() }

// publish makes a new key and adds it to the set, which loses its oldest. It does not sign yet.
func (i *issuer) publish() signer {
	s := i.secretly()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, s)
	i.keys = i.keys[max(0, len(i.keys)-keptKeys):]
	return s
}

// secretly makes a new key that is never published: what somebody else would sign with.
func (i *issuer) secretly() signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // documented not to happen
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counter++
	return signer{fmt.Sprintf("key-%d", i.counter), key}
}

// adopt has tokens signed with a key from now on.
func (i *issuer) adopt(s signer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.signs = s
}

// mint makes a token for a user.
func (i *issuer) mint(user string) string {
	i.mu.Lock()
	s := i.signs
	i.mu.Unlock()
	return s.mint(user)
}

// mint makes a token for a user: a JSON Web Signature in its compact form (RFC 7515, section 7.1; the algorithm is that
// of RFC 8037).
func (s signer) mint(user string) string {
	// In the past, since a clock that goes behind must not take a token for one of the future.
	issued := time.Now().Add(-clockOff - 5*time.Minute)
	header := part(map[string]any{"alg": "EdDSA", "kid": s.id, "typ": "JWT"})
	claims := part(map[string]any{
		"sub": user, "iat": issued.Unix(), "exp": issued.Add(tokenLife).Unix(), "jti": rand.Text(),
	})
	signed := header + "." + claims
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.key, []byte(signed)))
}

// part is one part of a token.
func part(members map[string]any) string {
	text, err := json.Marshal(members)
	if err != nil {
		panic(err) // texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func (i *issuer) serve(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	published := i.keys
	i.mu.Unlock()
	set := make([]map[string]string, len(published))
	for n, s := range published {
		set[n] = map[string]string{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": s.id}
		if public, ok := s.key.Public().(ed25519.PublicKey); ok {
			set[n]["x"] = base64.RawURLEncoding.EncodeToString(public)
		}
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": set}) // who asked may have gone
}
