package auth_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestJWKS_TakesEveryKindOfKey(t *testing.T) {
	t.Parallel()
	k := keys()
	tests := []struct {
		name   string
		key    jwk
		method jwt.SigningMethod
		signer any
	}{
		{"RSA", jwkOf(k.rsa, "a"), jwt.SigningMethodRS256, k.rsa},
		{"RSA for PS256", jwkOf(k.rsa, "a", jwk{"alg": "PS256"}), jwt.SigningMethodPS256, k.rsa},
		{"P-256", jwkOf(k.p256, "a", jwk{"alg": "ES256"}), jwt.SigningMethodES256, k.p256},
		{"P-384", jwkOf(k.p384, "a"), jwt.SigningMethodES384, k.p384},
		{"P-521", jwkOf(k.p521, "a"), jwt.SigningMethodES512, k.p521},
		{"Ed25519", jwkOf(k.ed25519, "a", jwk{"alg": "EdDSA"}), jwt.SigningMethodEdDSA, k.ed25519},
		{"key_ops", jwkOf(k.p256, "a", jwk{"key_ops": []string{"sign", "verify"}}), jwt.SigningMethodES256, k.p256},
		{"members of later RFCs", jwkOf(k.p256, "a", jwk{"x5c": []string{"x"}, "x5t#S256": "y", "x5u": "https://127.0.0.1:1/", "exp": 1, "nbf": nil}), jwt.SigningMethodES256, k.p256},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			verifier := newVerifier(t, serverConfig(&issuer{set: setOf(test.key)}))
			if err := verifier.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantGood(t, verifier, signed(t, test.method, test.signer, "a"), test.method.Alg())
		})
	}
}

// A key that is not for us is left out, and the others of its set are not.
func TestJWKS_SkipsKeys(t *testing.T) {
	t.Parallel()
	k := keys()
	x25519 := must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey().Bytes()
	huge := new(big.Int).SetBit(new(big.Int).Set(k.rsa.N), 8192, 1)
	without := func(key jwk, member string) jwk {
		delete(key, member)
		return key
	}
	tests := []struct {
		name   string
		key    jwk
		method jwt.SigningMethod // with which signer signs; none when nil
		signer any
		reason string
	}{
		{"shared secret", jwk{"kty": "oct", "kid": "a", "k": encode([]byte(sharedSecret))}, jwt.SigningMethodHS256, []byte(sharedSecret), "a shared secret (oct) does not belong into a JWKS"},
		{"for encryption", jwkOf(k.p256, "a", jwk{"use": "enc"}), jwt.SigningMethodES256, k.p256, "use is not sig"},
		{"use a number", jwkOf(k.p256, "a", jwk{"use": 1}), jwt.SigningMethodES256, k.p256, "use is not sig"},
		{"for signing alone", jwkOf(k.p256, "a", jwk{"key_ops": []string{"sign"}}), jwt.SigningMethodES256, k.p256, "key_ops does not hold verify"},
		{"for nothing", jwkOf(k.p256, "a", jwk{"key_ops": []string{}}), jwt.SigningMethodES256, k.p256, "key_ops does not hold verify"},
		{"key_ops a text", jwkOf(k.p256, "a", jwk{"key_ops": "verify"}), jwt.SigningMethodES256, k.p256, "key_ops does not hold verify"},
		{"alg of another kind", jwkOf(k.rsa, "a", jwk{"alg": "ES256"}), jwt.SigningMethodRS256, k.rsa, "alg is none for signatures"},
		{"alg of another curve", jwkOf(k.p256, "a", jwk{"alg": "ES384"}), jwt.SigningMethodES256, k.p256, "alg is none for signatures"},
		{"alg HS256", jwkOf(k.rsa, "a", jwk{"alg": "HS256"}), jwt.SigningMethodRS256, k.rsa, "alg is none for signatures"},
		{"alg none", jwkOf(k.rsa, "a", jwk{"alg": "none"}), jwt.SigningMethodRS256, k.rsa, "alg is none for signatures"},
		{"alg for encryption", jwkOf(k.rsa, "a", jwk{"alg": "RSA-OAEP"}), jwt.SigningMethodRS256, k.rsa, "alg is none for signatures"},
		{"alg null", jwkOf(k.rsa, "a", jwk{"alg": nil}), jwt.SigningMethodRS256, k.rsa, "alg is none for signatures"},
		{"RSA of 1024 bits", jwkOf(k.shortRSA, "a"), jwt.SigningMethodRS256, k.shortRSA, "RSA key of 1024 bits"},
		{"RSA of 8193 bits", jwkOf(k.rsa, "a", jwk{"n": encode(huge.Bytes())}), nil, nil, "RSA key of 8193 bits"},
		{"RSA with exponent 1", jwkOf(k.rsa, "a", jwk{"e": "AQ"}), nil, nil, "not a valid public key"},
		{"RSA with an exponent of 65 bits", jwkOf(k.rsa, "a", jwk{"e": encode(append([]byte{1}, 0, 0, 0, 0, 0, 1, 0, 1))}), jwt.SigningMethodRS256, k.rsa, "not a valid public key"},
		{"RSA without n", without(jwkOf(k.rsa, "a"), "n"), nil, nil, "not a valid public key"},
		{"private key", jwkOf(k.p256, "a", jwk{"d": encode([]byte("x"))}), jwt.SigningMethodES256, k.p256, "the private key is published"},
		{"point off the curve", jwkOf(k.p256, "a", jwk{"y": jwkOf(k.otherP256, "")["y"]}), nil, nil, "not a valid public key"},
		{"P-224", jwkOf(k.p224, "a"), nil, nil, "not a valid public key"},
		{"secp256k1", jwkOf(k.p256, "a", jwk{"crv": "secp256k1"}), nil, nil, "not a valid public key"},
		{"X25519", jwk{"kty": "OKP", "crv": "X25519", "kid": "a", "x": encode(x25519)}, nil, nil, "want RSA, ECDSA or Ed25519"},
		{"Ed25519 of 31 bytes", jwkOf(k.ed25519, "a", jwk{"x": encode(make([]byte, 31))}), nil, nil, "not a valid public key"},
		{"kty missing", without(jwkOf(k.p256, "a"), "kty"), jwt.SigningMethodES256, k.p256, "kty is neither"},
		{"kty in other letters", jwkOf(k.p256, "a", jwk{"kty": "ec"}), jwt.SigningMethodES256, k.p256, "kty is neither"},
		{"kty of the future", jwk{"kty": "AKP", "kid": "a", "pub": "x"}, nil, nil, "kty is neither"},
		{"kid a number", jwkOf(k.p256, "", jwk{"kid": 7}), jwt.SigningMethodES256, k.p256, "kid is not a string"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var logged logBuffer
			cfg := serverConfig(&issuer{set: setOf(test.key, jwkOf(k.p521, "good"))})
			cfg.Log = logged.logger()
			verifier := newVerifier(t, cfg)
			for range 2 {
				if err := verifier.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			wantGood(t, verifier, signed(t, jwt.SigningMethodES512, k.p521, "good"), "the other key")
			if test.method != nil {
				for _, kid := range []string{"a", ""} {
					if got, err := verifier.Verify(signed(t, test.method, test.signer, kid)); err == nil {
						t.Errorf("kid %q: got %+v, want no use made of the key", kid, got)
					}
				}
			}
			if text := logged.String(); strings.Count(text, test.reason) != 1 || !strings.Contains(text, "a key of the key server is not used") {
				t.Errorf("two fetches logged %q, want the reason %q once", text, test.reason)
			}
			wantNoLeak(t, logged.String(), sharedSecret)
		})
	}
}

// What is no set leaves the keys as they were.
func TestJWKS_RefusesSets(t *testing.T) {
	t.Parallel()
	k := keys()
	good := jwkOf(k.p256, "a")
	text := string(must(json.Marshal(good)))
	many := make([]jwk, 101)
	for i := range many {
		many[i] = good
	}
	tests := []struct{ name, set, want string }{
		{"nothing", "", "not JSON"},
		{"HTML", "<html></html>", "not JSON"},
		{"a list", "[" + text + "]", "not a JSON object"},
		{"a key alone", text, "no JSON Web Key Set"},
		{"keys missing", `{}`, "no JSON Web Key Set"},
		{"KEYS", `{"KEYS":[` + text + `]}`, "no JSON Web Key Set"},
		{"keys null", `{"keys":null}`, "no JSON Web Key Set"},
		{"keys an object", `{"keys":{"a":` + text + `}}`, "no JSON Web Key Set"},
		{"a key that is a text", `{"keys":["x",` + text + `]}`, "no JSON Web Key Set"},
		{"keys twice", `{"keys":[],"keys":[` + text + `]}`, "the same member twice"},
		{"kty twice", `{"keys":[{"kty":"oct",` + text[1:] + `]}`, "the same member twice"},
		{"cut off", `{"keys":[` + text, "not JSON"},
		{"no UTF-8", `{"keys":[` + text + `],"x":"` + "\xff" + `"}`, "not UTF-8"},
		{"deep", `{"keys":[` + text + `],"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, "nested too deep"},
		{"101 keys", setOf(many...), "more than 100 keys"},
		{"no key", setOf(), "no key in it can check a signature"},
		{"no key of use", setOf(jwkOf(k.p256, "a", jwk{"use": "enc"})), "no key in it can check a signature"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := &issuer{set: setOf(jwkOf(k.otherP256, "b"))}
			verifier := newVerifier(t, serverConfig(server))
			if err := verifier.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			server.change(func(i *issuer) { i.set = test.set })
			if err := verifier.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one about %q", err, test.want)
			}
			wantGood(t, verifier, otherES256(t, "b"), "the key known before")
		})
	}
}

// Any text at all is a set or is refused; what comes of it never accepts a signature of a key that is not in it.
func FuzzJWKS(f *testing.F) {
	k := keys()
	f.Add(setOf())
	f.Add(setOf(jwkOf(k.p256, "a"), jwkOf(k.ed25519, ""), jwkOf(k.rsa, "r", jwk{"alg": "PS256", "key_ops": []string{"verify"}})))
	f.Add(setOf(jwk{"kty": "oct", "k": "AAAA"}, jwkOf(k.p521, "x", jwk{"use": "enc"}), jwkOf(k.shortRSA, "y")))
	f.Add(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":"AA"},{"kty":"OKP","crv":"Ed25519","x":"AAAA"},{"kty":"RSA","n":"AQ","e":"AQAB"}]}`)
	f.Add(`{"keys":[{"kty":"EC","kty":"oct"}]}`)
	foreign := []struct {
		method jwt.SigningMethod
		key    crypto.Signer
	}{{jwt.SigningMethodES256, k.otherP256}, {jwt.SigningMethodEdDSA, k.otherEd25519Private}, {jwt.SigningMethodRS256, k.otherRSA}}
	tokens := []string{hs256(f, goodHeader, goodPayload), hs256(f, `{"alg":"HS256","kid":"a"}`, goodPayload)}
	for _, of := range foreign {
		tokens = append(tokens, signed(f, of.method, of.key, ""), signed(f, of.method, of.key, "a"))
	}
	f.Fuzz(func(t *testing.T, set string) {
		for _, of := range foreign {
			for _, member := range []string{"n", "x"} {
				if value, is := jwkOf(of.key, "")[member].(string); is && strings.Contains(set, value) {
					t.Skip("the set has come by a key that it should not have")
				}
			}
		}
		verifier := newVerifier(t, serverConfig(&issuer{set: set}))
		err := verifier.Fetch(t.Context())
		if (err == nil) != (verifier.Ready() == nil) {
			t.Fatalf("Fetch says %v, and Ready %v", err, verifier.Ready())
		}
		for _, token := range tokens {
			if got, err := verifier.Verify(token); err == nil {
				t.Fatalf("a token of another key is accepted as %+v", got)
			}
		}
	})
}
