package auth_test

import (
	"crypto"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

// Each kind of key accepts the algorithms of its own kind, and of all the others none.
func TestVerifier_AlgorithmsArePinnedByTheKey(t *testing.T) {
	t.Parallel()
	k := keys()
	signers := []struct {
		method jwt.SigningMethod
		key    any
	}{
		{jwt.SigningMethodHS256, []byte(sharedSecret)},
		{jwt.SigningMethodHS384, []byte(sharedSecret)},
		{jwt.SigningMethodHS512, []byte(sharedSecret)},
		{jwt.SigningMethodRS256, k.rsa},
		{jwt.SigningMethodRS384, k.rsa},
		{jwt.SigningMethodRS512, k.rsa},
		{jwt.SigningMethodPS256, k.rsa},
		{jwt.SigningMethodPS384, k.rsa},
		{jwt.SigningMethodPS512, k.rsa},
		{jwt.SigningMethodES256, k.p256},
		{jwt.SigningMethodES384, k.p384},
		{jwt.SigningMethodES512, k.p521},
		{jwt.SigningMethodEdDSA, k.ed25519},
	}
	configs := []struct {
		name    string
		cfg     auth.Config
		allowed string
	}{
		{"secret", secretConfig(), "HS256 HS384 HS512"},
		{"RSA", keyConfig(t, k.rsa), "RS256 RS384 RS512 PS256 PS384 PS512"},
		{"P-256", keyConfig(t, k.p256), "ES256"},
		{"P-384", keyConfig(t, k.p384), "ES384"},
		{"P-521", keyConfig(t, k.p521), "ES512"},
		{"Ed25519", keyConfig(t, k.ed25519), "EdDSA"},
	}
	for _, config := range configs {
		t.Run(config.name, func(t *testing.T) {
			t.Parallel()
			verifier := newVerifier(t, config.cfg)
			for _, signer := range signers {
				alg := signer.method.Alg()
				token := forge(t, signer.method, signer.key, `{"alg":"`+alg+`"}`, goodPayload)
				got, err := verifier.Verify(token)
				if !strings.Contains(config.allowed, alg) {
					wantRefused(t, token, got, err, auth.ErrInvalidToken, "alg is none that")
				} else if err != nil || got.User != "alice" {
					t.Errorf("%s: got %+v, error %v; want alice", alg, got, err)
				}
			}
		})
	}
}

// Attack 5, the classic: the public key, which everybody has, taken as the secret of an HMAC, in every encoding a careless
// verifier could have at hand.
func TestAttack05_HMACWithOurPublicKey(t *testing.T) {
	t.Parallel()
	k := keys()
	for name, key := range map[string]crypto.Signer{"RSA": k.rsa, "P-256": k.p256, "P-384": k.p384, "P-521": k.p521, "Ed25519": k.ed25519} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verifier := newVerifier(t, keyConfig(t, key))
			asPEM := pemBlock("PUBLIC KEY", spki(key))
			secrets := map[string][]byte{
				"PEM":                   asPEM,
				"PEM without a newline": asPEM[:len(asPEM)-1],
				"DER":                   spki(key),
				"nothing":               {},
			}
			if key == crypto.Signer(k.rsa) {
				secrets["PKCS #1"] = x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)
				secrets["modulus"] = k.rsa.N.Bytes()
			}
			for encoding, secret := range secrets {
				for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
					token := forge(t, method, secret, `{"alg":"`+method.Alg()+`"}`, goodPayload)
					got, err := verifier.Verify(token)
					wantRefused(t, token, got, err, auth.ErrInvalidToken, "alg is none that")
					if t.Failed() {
						t.Fatalf("%s signed with the key as %s", method.Alg(), encoding)
					}
				}
			}
		})
	}
}

// Signatures of nobody, of a stranger's key, and of the right key under a name that fits badly.
func TestVerifier_RefusesForeignSignatures(t *testing.T) {
	t.Parallel()
	k := keys()
	strangers := []byte("a secret of a stranger, also 40 bytes lo")
	zeros := func(alg string, n int) string {
		return encode([]byte(`{"alg":"`+alg+`"}`)) + "." + encode([]byte(goodPayload)) + "." + encode(make([]byte, n))
	}
	withKey := `{"alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"` + encode(k.otherRSA.N.Bytes()) + `"}}`
	rs, ps := `{"alg":"RS256"}`, `{"alg":"PS256"}`
	tests := []struct {
		name  string
		cfg   auth.Config
		token string
	}{
		{"stranger's secret", secretConfig(), forge(t, jwt.SigningMethodHS256, strangers, goodHeader, goodPayload)},
		{"no secret", secretConfig(), forge(t, jwt.SigningMethodHS256, []byte{}, goodHeader, goodPayload)},
		{"HMAC of zeros", secretConfig(), zeros("HS256", 32)},
		{"stranger's RSA key", keyConfig(t, k.rsa), forge(t, jwt.SigningMethodRS256, k.otherRSA, rs, goodPayload)},
		{"stranger's RSA key, sent along", keyConfig(t, k.rsa), forge(t, jwt.SigningMethodRS256, k.otherRSA, withKey, goodPayload)},
		{"PSS called PKCS #1", keyConfig(t, k.rsa), forge(t, jwt.SigningMethodPS256, k.rsa, rs, goodPayload)},
		{"PKCS #1 called PSS", keyConfig(t, k.rsa), forge(t, jwt.SigningMethodRS256, k.rsa, ps, goodPayload)},
		{"SHA-512 called SHA-256", keyConfig(t, k.rsa), forge(t, jwt.SigningMethodRS512, k.rsa, rs, goodPayload)},
		{"RSA of zeros", keyConfig(t, k.rsa), zeros("RS256", 256)},
		{"stranger's ECDSA key", keyConfig(t, k.p256), forge(t, jwt.SigningMethodES256, k.otherP256, `{"alg":"ES256"}`, goodPayload)},
		{"ECDSA r and s of zero", keyConfig(t, k.p256), zeros("ES256", 64)},
		{"ECDSA signature of another size", keyConfig(t, k.p256), zeros("ES256", 96)},
		{"stranger's Ed25519 key", keyConfig(t, k.ed25519), forge(t, jwt.SigningMethodEdDSA, k.otherEd25519Private, `{"alg":"EdDSA"}`, goodPayload)},
		{"Ed25519 of zeros", keyConfig(t, k.ed25519), zeros("EdDSA", 64)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := newVerifier(t, test.cfg).Verify(test.token)
			wantRefused(t, test.token, got, err, auth.ErrInvalidToken, "the signature does not match")
		})
	}
}
