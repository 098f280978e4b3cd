package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

const (
	// sharedSecret is 40 bytes, none of which occur together in any text of the package.
	sharedSecret = "q7Xz-81_kWvR2mTn5bLcY0pHd9sEfUaGj3oIwVtB"

	goodHeader = `{"alg":"HS256","typ":"JWT"}`
	// goodPayload ends an hour after noon.
	goodPayload = `{"sub":"alice","exp":1800003600}`
)

// noon is the time on every clock of these tests, so that payloads can be written out.
var noon = time.Unix(1_800_000_000, 0).UTC()

func atNoon() time.Time { return noon }

// secretConfig is the plain configuration most tests start from.
func secretConfig() auth.Config {
	return auth.Config{Secrets: []auth.Secret{auth.NewSecret(sharedSecret)}, Now: atNoon}
}

func newVerifier(t testing.TB, cfg auth.Config) *auth.Verifier {
	t.Helper()
	verifier, err := auth.NewVerifier(cfg)
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	return verifier
}

// encode is the base64url of a token's segment.
func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// decode undoes encode.
func decode(t testing.TB, segment string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// forge signs header and payload as they are, however wrong. This is what an issuer with strange habits, or a thief of
// the key, can do.
func forge(t testing.TB, method jwt.SigningMethod, key any, header, payload string) string {
	t.Helper()
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	signature, err := method.Sign(signed, key)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	return signed + "." + encode(signature)
}

// hs256 forges with the shared secret.
func hs256(t testing.TB, header, payload string) string {
	t.Helper()
	return forge(t, jwt.SigningMethodHS256, []byte(sharedSecret), header, payload)
}

// wantRefused checks that err is of kind, that it is the rule meant and not another one that refused the token, and
// that the error gives nothing away.
func wantRefused(t testing.TB, token string, principal auth.Principal, err, kind error, rule string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got principal %+v, error %v; want %v", principal, err, kind)
	}
	if !strings.Contains(err.Error(), rule) {
		t.Errorf("refused by %q, want the rule %q", err, rule)
	}
	if principal != (auth.Principal{}) {
		t.Errorf("got principal %+v with an error, want none", principal)
	}
	wantNoLeak(t, err.Error(), token)
}

// wantNoLeak checks that text has no piece of the token in it, encoded or decoded, nor of the shared secret. A piece is
// eight bytes: shorter ones are words that both have by chance.
func wantNoLeak(t testing.TB, text, token string) {
	t.Helper()
	const piece = 8
	private := []string{token, sharedSecret}
	for segment := range strings.SplitSeq(token, ".") {
		if raw, err := base64.RawURLEncoding.DecodeString(segment); err == nil {
			private = append(private, string(raw))
		}
	}
	for _, whole := range private {
		for i := 0; i+piece <= len(whole); i++ {
			if strings.Contains(text, whole[i:i+piece]) {
				t.Fatalf("%q gives away %q", text, whole[i:i+piece])
			}
		}
	}
}

// testKeys are made once: an RSA key takes a while.
type testKeys struct {
	rsa, otherRSA, shortRSA      *rsa.PrivateKey
	p224, p256, p384, p521       *ecdsa.PrivateKey
	otherP256                    *ecdsa.PrivateKey
	ed25519, otherEd25519Private ed25519.PrivateKey
}

var keys = sync.OnceValue(func() testKeys {
	return testKeys{
		rsa:                 must(rsa.GenerateKey(rand.Reader, 2048)),
		otherRSA:            must(rsa.GenerateKey(rand.Reader, 2048)),
		shortRSA:            must(rsa.GenerateKey(rand.Reader, 1024)),
		p224:                must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)),
		p256:                must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		p384:                must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		p521:                must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		otherP256:           must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		ed25519:             ed25519.NewKeyFromSeed([]byte("a seed of exactly 32 bytes, yes.")),
		otherEd25519Private: ed25519.NewKeyFromSeed([]byte("another one of exactly 32 bytes.")),
	}
})

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// spki is the usual encoding of a public key.
func spki(key crypto.Signer) []byte { return must(x509.MarshalPKIXPublicKey(key.Public())) }

// pemBlock is PEM of one block.
func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeFile puts content into a file of its own and returns its path.
func writeFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyConfig is a configuration with key's public half in a file.
func keyConfig(t testing.TB, key crypto.Signer) auth.Config {
	t.Helper()
	return auth.Config{PublicKeyFiles: []string{writeFile(t, pemBlock("PUBLIC KEY", spki(key)))}, Now: atNoon}
}
