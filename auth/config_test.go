package auth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

func TestNewVerifier_ReadsEveryEncodingOfAKey(t *testing.T) {
	t.Parallel()
	k := keys()
	plain := pemBlock("PUBLIC KEY", spki(k.rsa))
	tests := []struct {
		name   string
		file   []byte
		method jwt.SigningMethod
		key    crypto.Signer
	}{
		{"SPKI RSA", plain, jwt.SigningMethodRS256, k.rsa},
		{"PKCS #1", pemBlock("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)), jwt.SigningMethodPS384, k.rsa},
		{"certificate RSA", certificate(k.rsa), jwt.SigningMethodRS512, k.rsa},
		{"SPKI P-256", pemBlock("PUBLIC KEY", spki(k.p256)), jwt.SigningMethodES256, k.p256},
		{"certificate P-384", certificate(k.p384), jwt.SigningMethodES384, k.p384},
		{"SPKI P-521", pemBlock("PUBLIC KEY", spki(k.p521)), jwt.SigningMethodES512, k.p521},
		{"SPKI Ed25519", pemBlock("PUBLIC KEY", spki(k.ed25519)), jwt.SigningMethodEdDSA, k.ed25519},
		{"certificate Ed25519", certificate(k.ed25519), jwt.SigningMethodEdDSA, k.ed25519},
		{"text around it", bytes.Join([][]byte{[]byte("Certificate:\n  Data: 1\n"), plain, []byte("-- the end\n")}, nil), jwt.SigningMethodRS256, k.rsa},
		{"line ends of Windows", bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n")), jwt.SigningMethodRS256, k.rsa},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			verifier := newVerifier(t, auth.Config{PublicKeyFiles: []string{writeFile(t, test.file)}, Now: atNoon})
			token := forge(t, test.method, test.key, `{"alg":"`+test.method.Alg()+`"}`, goodPayload)
			if got, err := verifier.Verify(token); err != nil || got.User != "alice" {
				t.Errorf("got %+v, error %v; want alice", got, err)
			}
		})
	}
}

func TestNewVerifier_RefusesKeyFiles(t *testing.T) {
	t.Parallel()
	k := keys()
	const privateHint = "openssl pkey -in private.pem -pubout"
	public := pemBlock("PUBLIC KEY", spki(k.p256))
	private := pemBlock("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k.p256)))
	x25519 := must(x509.MarshalPKIXPublicKey(must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey()))
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "no PEM block"},
		{"DER", spki(k.p256), "no PEM block"},
		{"a JWK", []byte(`{"kty":"oct","k":"c2VjcmV0"}`), "no PEM block"},
		{"PKCS #8 private key", private, privateHint},
		{"PKCS #1 private key", pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k.rsa)), privateHint},
		{"EC private key after its parameters", append(pemBlock("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}),
			pemBlock("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(k.p256)))...), privateHint},
		{"encrypted private key", pemBlock("ENCRYPTED PRIVATE KEY", []byte{48, 0}), privateHint},
		{"OpenSSH private key", pemBlock("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")), privateHint},
		{"public and private key", append(bytes.Clone(public), private...), privateHint},
		{"two keys, the second weak", append(bytes.Clone(public), pemBlock("PUBLIC KEY", spki(k.shortRSA))...), "block 2: RSA key of 1024 bits"},
		{"two keys, the second cut off", append(bytes.Clone(public), public[:60]...), "2 PEM blocks begin in it, and 1 can be read"},
		{"a block of another kind", pemBlock("CERTIFICATE REQUEST", []byte{48, 0}), `"CERTIFICATE REQUEST"`},
		{"SPKI that is none", pemBlock("PUBLIC KEY", []byte{48, 0}), "asn1"},
		{"PKCS #1 that is none", pemBlock("RSA PUBLIC KEY", []byte{48, 0}), "asn1"},
		{"certificate that is none", pemBlock("CERTIFICATE", []byte{48, 0}), "x509"},
		{"RSA of 1024 bits", pemBlock("PUBLIC KEY", spki(k.shortRSA)), "RSA key of 1024 bits: at least 2048"},
		{"RSA of 1024 bits in PKCS #1", pemBlock("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.shortRSA.PublicKey)), "RSA key of 1024 bits"},
		{"P-224", pemBlock("PUBLIC KEY", spki(k.p224)), "P-224"},
		{"X25519", pemBlock("PUBLIC KEY", x25519), "want RSA, ECDSA or Ed25519"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, test.file)
			wantConfigError(t, auth.Config{PublicKeyFiles: []string{path}}, test.want)
			wantConfigError(t, auth.Config{PublicKeyFiles: []string{path}}, path)
		})
	}
}

func TestNewVerifier_RefusesSettings(t *testing.T) {
	t.Parallel()
	public := string(pemBlock("PUBLIC KEY", spki(keys().p256)))
	private := string(pemBlock("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(keys().p256))))
	secret := func(text string) auth.Config { return auth.Config{Secrets: []auth.Secret{auth.NewSecret(text)}} }
	with := func(adjust func(*auth.Config)) auth.Config {
		cfg := secretConfig()
		adjust(&cfg)
		return cfg
	}
	tests := []struct {
		name string
		cfg  auth.Config
		want string
	}{
		{"nothing", auth.Config{}, "no key to verify tokens with"},
		{"an empty secret", secret(""), "no key to verify tokens with"},
		{"secret of 31 bytes", secret(sharedSecret[:31]), "31 bytes: at least 32 are needed; make one with: openssl rand -base64 48"},
		{"public key as secret", secret(public), "shared JWT secret is a PEM file"},
		{"both", with(func(c *auth.Config) { c.PublicKeyFiles = []string{writeFile(t, []byte(public))} }), "both"},
		{"key file missing", auth.Config{PublicKeyFiles: []string{filepath.Join(t.TempDir(), "none.pem")}}, "none.pem"},
		{"key file a directory", auth.Config{PublicKeyFiles: []string{t.TempDir()}}, "read JWT public key file"},
		{"key in place of its path", auth.Config{PublicKeyFiles: []string{private}}, "not the path of a file"},
		{"leeway negative", with(func(c *auth.Config) { c.Leeway = -time.Second }), "leeway -1s"},
		{"leeway of a day", with(func(c *auth.Config) { c.Leeway = 24 * time.Hour }), "leeway 24h0m0s"},
		{"maximum lifetime negative", with(func(c *auth.Config) { c.MaxLifetime = -1 }), "maximum token lifetime"},
		{"all users are the issuer", with(func(c *auth.Config) { c.UserClaim = "iss" }), `user claim "iss"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantConfigError(t, test.cfg, test.want)
		})
	}
	t.Run("private key in place of a path is not printed", func(t *testing.T) {
		t.Parallel()
		_, err := auth.NewVerifier(auth.Config{PublicKeyFiles: []string{private}})
		wantNoLeak(t, err.Error(), strings.Split(private, "\n")[1])
	})
}

func TestNewVerifier_SecretOf32Bytes(t *testing.T) {
	t.Parallel()
	newVerifier(t, auth.Config{Secrets: []auth.Secret{auth.NewSecret(sharedSecret[:32])}})
}

func TestNewVerifier_ReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	cfg := auth.Config{
		Secrets:        []auth.Secret{auth.NewSecret(sharedSecret[:20])},
		PublicKeyFiles: []string{writeFile(t, []byte("nothing"))},
		JWKSURL:        "http://issuer",
		JWKSRefresh:    time.Second,
		UserClaim:      "aud",
		Leeway:         -1,
		MaxLifetime:    -1,
	}
	for _, want := range []string{"both", "20 bytes", "no PEM block", "plain http", "JWKS refresh 1s", `user claim "aud"`, "leeway", "maximum token lifetime"} {
		wantConfigError(t, cfg, want)
	}
}

// wantConfigError checks that cfg is refused with a text that holds want and nothing of the secret.
func wantConfigError(t *testing.T, cfg auth.Config, want string) {
	t.Helper()
	verifier, err := auth.NewVerifier(cfg)
	if err == nil || verifier != nil {
		t.Fatalf("got verifier %v, error %v; want an error about %q", verifier, err, want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got error %q, want one about %q", err, want)
	}
	wantNoLeak(t, err.Error(), sharedSecret)
}

// certificate is PEM of a certificate that has long expired: only its key counts.
func certificate(key crypto.Signer) []byte {
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "issuer"},
		NotBefore:    noon.AddDate(-20, 0, 0),
		NotAfter:     noon.AddDate(-19, 0, 0),
	}
	return pemBlock("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)))
}
