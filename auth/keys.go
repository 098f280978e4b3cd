package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// minRSABits is the least that RFC 7518 section 3.3 allows.
const minRSABits = 2048

// keyset is what signatures are checked with, and the one place that knows which algorithm goes with which key. It
// holds one key, from the configuration. Keys that an issuer publishes and rotates would be looked up here, by the kid
// of a token; today a kid means nothing.
type keyset struct {
	// methods are the algorithms the key is for, by the name a header gives them.
	methods map[string]jwt.SigningMethod
	// key is a func for the reason that Secret is one: no print of a Verifier reaches the key.
	key func() any
}

// verify says whether signature is that of signed. alg is what the token claims: it selects among the algorithms of the
// key and cannot add one, so that an RSA key is never taken for an HMAC secret.
func (k keyset) verify(alg, signed string, signature []byte) error {
	method, allowed := k.methods[alg]
	if !allowed {
		return invalid("header: alg is none that the configured key allows")
	}
	if err := method.Verify(signed, signature, k.key()); err != nil {
		return invalid("the signature does not match")
	}
	return nil
}

func newKeyset(key func() any, methods ...jwt.SigningMethod) keyset {
	k := keyset{methods: make(map[string]jwt.SigningMethod, len(methods)), key: key}
	for _, method := range methods {
		k.methods[method.Alg()] = method
	}
	return k
}

func secretKeys(secret Secret) keyset {
	return newKeyset(func() any { return secret.bytes() },
		jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512)
}

// publicKeys reads the one public key in the PEM file at path.
func publicKeys(path string) (keyset, error) {
	// Asked first, and without naming the path: os.ReadFile's error would print what may be a private key.
	if strings.Contains(path, "-----BEGIN ") {
		return keyset{}, errors.New("JWT public key file: this is a key, not the path of a file that holds one")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return keyset{}, fmt.Errorf("read JWT public key file: %w", err)
	}
	key, err := parsePublicKey(content)
	if err != nil {
		return keyset{}, fmt.Errorf("JWT public key file %s: %w", path, err)
	}
	keys, err := keysetOf(key)
	if err != nil {
		return keyset{}, fmt.Errorf("JWT public key file %s: %w", path, err)
	}
	return keys, nil
}

// parsePublicKey reads PEM with exactly one block. Text around the block is fine, as OpenSSL writes it there.
func parsePublicKey(content []byte) (any, error) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		// Before anything else is judged: a gateway that can sign tokens is the issuer's business lost with the gateway.
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errors.New("holds a private key, which stays with the issuer; write its public half with: openssl pkey -in private.pem -pubout -out public.pem")
		}
		blocks = append(blocks, block)
	}
	switch {
	case len(blocks) == 0:
		return nil, errors.New("no PEM block in it; turn a DER file into one with: openssl pkey -pubin -inform der -in public.der -out public.pem")
	case len(blocks) > 1:
		return nil, fmt.Errorf("%d PEM blocks in it: keep the one whose key signs the tokens", len(blocks))
	}
	switch block := blocks[0]; block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	default:
		return nil, fmt.Errorf("PEM block %q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
	}
}

// keysetOf pins the algorithms of a public key.
func keysetOf(key any) (keyset, error) {
	given := func() any { return key }
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return keyset{}, fmt.Errorf("RSA key of %d bits: at least %d are needed", bits, minRSABits)
		}
		return newKeyset(given,
			jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
			jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512), nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return newKeyset(given, jwt.SigningMethodES256), nil
		case elliptic.P384():
			return newKeyset(given, jwt.SigningMethodES384), nil
		case elliptic.P521():
			return newKeyset(given, jwt.SigningMethodES512), nil
		}
		return keyset{}, fmt.Errorf("ECDSA key on %s: want P-256, P-384 or P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return newKeyset(given, jwt.SigningMethodEdDSA), nil
	default:
		return keyset{}, fmt.Errorf("key of type %T: want RSA, ECDSA or Ed25519", key)
	}
}
