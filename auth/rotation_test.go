package auth_test

import (
	"bytes"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

const previousSecret = "Zu4-the-secret-of-last-year-has-45-bytes-8Kx!"

// A shared secret is replaced: tokens by both are good, new ones are made with the first.
func TestVerifier_TakesTokensOfTwoSecrets(t *testing.T) {
	t.Parallel()
	current, previous := auth.NewSecret(sharedSecret), auth.NewSecret(previousSecret)
	byPrevious := forge(t, jwt.SigningMethodHS256, []byte(previousSecret), goodHeader, goodPayload)
	both := auth.Config{Secrets: []auth.Secret{current, previous}, Now: atNoon}
	verifier := newVerifier(t, both)
	wantGood(t, verifier, hs256(t, goodHeader, goodPayload), "the current secret")
	wantGood(t, verifier, byPrevious, "the previous secret")
	wantGood(t, verifier, forge(t, jwt.SigningMethodHS512, []byte(previousSecret), `{"alg":"HS512","kid":"anything"}`, goodPayload), "the previous secret, HS512")
	wantBad(t, verifier, forge(t, jwt.SigningMethodHS256, []byte(sharedSecret+previousSecret), goodHeader, goodPayload), "the signature does not match")

	minted, err := both.Mint("alice", 60e9)
	if err != nil {
		t.Fatal(err)
	}
	wantGood(t, newVerifier(t, secretConfig()), minted, "what Mint signs, with the current secret alone")
	wantBad(t, newVerifier(t, secretConfig()), byPrevious, "the signature does not match")
	// A setting that is empty is no secret.
	one := newVerifier(t, auth.Config{Secrets: []auth.Secret{{}, current, {}}, Now: atNoon})
	wantGood(t, one, hs256(t, goodHeader, goodPayload), "a secret between empty ones")
	wantBad(t, one, forge(t, jwt.SigningMethodHS256, []byte{}, goodHeader, goodPayload), "the signature does not match")
}

// Public keys of every kind at once, in one file and in several. Each is for its own algorithms.
func TestVerifier_TakesTokensOfSeveralPublicKeys(t *testing.T) {
	t.Parallel()
	k := keys()
	bundle := writeFile(t, bytes.Join([][]byte{
		[]byte("# of last year\n"), pemBlock("PUBLIC KEY", spki(k.p256)), pemBlock("PUBLIC KEY", spki(k.otherP256)), []byte("\n\n"),
		certificate(k.p384), pemBlock("PUBLIC KEY", spki(k.p521)),
	}, nil))
	verifier := newVerifier(t, auth.Config{PublicKeyFiles: []string{
		bundle, writeFile(t, pemBlock("PUBLIC KEY", spki(k.rsa))), writeFile(t, pemBlock("PUBLIC KEY", spki(k.ed25519))),
	}, Now: atNoon})
	for _, kid := range []string{"", "whatever"} {
		wantGood(t, verifier, es256(t, kid), "the first of its curve")
		wantGood(t, verifier, otherES256(t, kid), "the second of its curve")
		wantGood(t, verifier, signed(t, jwt.SigningMethodES384, k.p384, kid), "P-384")
		wantGood(t, verifier, signed(t, jwt.SigningMethodES512, k.p521, kid), "P-521")
		wantGood(t, verifier, signed(t, jwt.SigningMethodPS256, k.rsa, kid), "RSA")
		wantGood(t, verifier, signed(t, jwt.SigningMethodEdDSA, k.ed25519, kid), "Ed25519")
	}
	wantBad(t, verifier, signed(t, jwt.SigningMethodRS256, k.otherRSA, ""), "the signature does not match")
	wantBad(t, verifier, forge(t, jwt.SigningMethodHS256, spki(k.rsa), goodHeader, goodPayload), "alg is none that")
}

// Keys in files and a key server go together, such as while one replaces the other: those of the files are good from
// the start and whatever comes of the key server.
func TestVerifier_TakesFilesBesideAKeyServer(t *testing.T) {
	t.Parallel()
	k := keys()
	server := &issuer{set: setOf(jwkOf(k.p256, "a")), status: 503}
	cfg := serverConfig(server)
	cfg.PublicKeyFiles = keyConfig(t, k.otherP256).PublicKeyFiles
	verifier := newVerifier(t, cfg)
	if err := verifier.Ready(); err != nil {
		t.Errorf("Ready with a key in a file: %v", err)
	}
	if err := verifier.Fetch(t.Context()); err == nil {
		t.Error("a fetch from a server with status 503 brings no error")
	}
	wantGood(t, verifier, otherES256(t, "file"), "the key of the file, before the first set")
	server.change(func(i *issuer) { i.status = 0 })
	if err := verifier.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantGood(t, verifier, es256(t, "a"), "the key of the set")
	wantGood(t, verifier, otherES256(t, "file"), "the key of the file, beside the set")
	if asked := len(server.asked()); asked != 2 {
		t.Errorf("%d fetches, want the two that the test made", asked)
	}
}

// Attack 5: a shared secret beside public keys is refused at the start, and so is a public key in its place.
func TestAttack05_MixedKeys(t *testing.T) {
	t.Parallel()
	k := keys()
	secrets := secretConfig().Secrets
	files := keyConfig(t, k.rsa).PublicKeyFiles
	const url = "https://issuer.example/jwks.json"
	for name, cfg := range map[string]auth.Config{
		"secret and file":          {Secrets: secrets, PublicKeyFiles: files},
		"secret and JWKS":          {Secrets: secrets, JWKSURL: url},
		"all three":                {Secrets: secrets, PublicKeyFiles: files, JWKSURL: url},
		"previous secret and JWKS": {Secrets: []auth.Secret{{}, auth.NewSecret(previousSecret)}, JWKSURL: url},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantConfigError(t, cfg, "both a shared JWT secret and public keys")
		})
	}
	for _, kind := range []string{"PUBLIC KEY", "CERTIFICATE", "RSA PUBLIC KEY"} {
		wantConfigError(t, auth.Config{Secrets: append(secrets[:1:1], auth.NewSecret(string(pemBlock(kind, spki(k.rsa)))))}, "is a PEM file")
	}
}

func TestNewVerifier_BoundsTheKeysOfItsConfiguration(t *testing.T) {
	t.Parallel()
	block := pemBlock("PUBLIC KEY", spki(keys().p256))
	newVerifier(t, auth.Config{PublicKeyFiles: []string{writeFile(t, bytes.Repeat(block, 16))}})
	wantConfigError(t, auth.Config{PublicKeyFiles: []string{writeFile(t, bytes.Repeat(block, 17))}}, "17 keys")
}
