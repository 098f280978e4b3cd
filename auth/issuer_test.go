package auth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

// jwk is a key of a JWKS, to be written as JSON.
type jwk map[string]any

// jwkOf is the public half of a key.
func jwkOf(key crypto.Signer, kid string, more ...jwk) jwk {
	out := jwk{"use": "sig"}
	if kid != "" {
		out["kid"] = kid
	}
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point := must(public.Bytes())[1:] // uncompressed: a byte 4, x and y
		out["kty"], out["crv"] = "EC", public.Curve.Params().Name
		out["x"], out["y"] = encode(point[:len(point)/2]), encode(point[len(point)/2:])
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", encode(public)
	}
	for _, some := range more {
		maps.Copy(out, some)
	}
	return out
}

// setOf is a JWKS of keys.
func setOf(keys ...jwk) string {
	if keys == nil {
		keys = []jwk{}
	}
	return string(must(json.Marshal(map[string]any{"keys": keys})))
}

// signed is a good token of alice by key, with its kid unless that is empty.
func signed(t testing.TB, method jwt.SigningMethod, key any, kid string) string {
	t.Helper()
	header := map[string]any{"alg": method.Alg()}
	if kid != "" {
		header["kid"] = kid
	}
	return forge(t, method, key, string(must(json.Marshal(header))), goodPayload)
}

// issuer is a key server without a network, for tests in which time is not real: what a Verifier asks is answered by
// answer, after delay. Set its fields by change.
type issuer struct {
	mu      sync.Mutex
	set     string        // guarded by mu, as all of them
	status  int           // 200 when 0
	err     error         // no answer, but this
	delay   time.Duration // before the answer
	drip    time.Duration // between two bytes of it
	fetches []time.Time   // when each was asked
	ended   []time.Time   // when each was answered or given up
}

func (i *issuer) change(adjust func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	adjust(i)
}

// asked returns when fetches came.
func (i *issuer) asked() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]time.Time(nil), i.fetches...)
}

// RoundTrip implements http.RoundTripper.
func (i *issuer) RoundTrip(request *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.fetches = append(i.fetches, time.Now())
	set, status, err, delay, drip := i.set, i.status, i.err, i.delay, i.drip
	i.mu.Unlock()
	defer i.change(func(i *issuer) { i.ended = append(i.ended, time.Now()) })
	if !pause(request.Context(), delay) {
		return nil, request.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	if status == 0 {
		status = http.StatusOK
	}
	var body io.Reader = bytes.NewReader([]byte(set))
	if drip > 0 {
		body = &dripping{request.Context(), []byte(set), drip}
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(body), Request: request}, nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// dripping gives a byte at a time.
type dripping struct {
	ctx   context.Context
	left  []byte
	every time.Duration
}

func (d *dripping) Read(p []byte) (int, error) {
	if len(d.left) == 0 {
		return 0, io.EOF
	}
	if !pause(d.ctx, d.every) {
		return 0, d.ctx.Err()
	}
	p[0], d.left = d.left[0], d.left[1:]
	return 1, nil
}

// serverConfig is a configuration with the issuer's JWKS.
func serverConfig(i *issuer) auth.Config {
	return auth.Config{JWKSURL: "https://issuer.example/jwks.json", JWKSTransport: i, Now: atNoon}
}

// start runs a verifier until stop is called, or the test ends.
func start(t testing.TB, verifier *auth.Verifier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- verifier.Run(ctx) }() // stop waits for it
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
