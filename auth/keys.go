package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// minRSABits is the least that RFC 7518 section 3.3 allows.
	minRSABits = 2048
	// maxRSABits bounds what one signature costs: checking one doubles twice when the key doubles. It is the limit of Go's
	// TLS as well.
	maxRSABits = 8192

	// maxConfigured bounds the keys of the configuration. Two are needed while a key is replaced; a token is tried on all.
	maxConfigured = 16
	// maxTries bounds the signatures checked for one token, and so what a forged one costs: about 2 ms with RSA of 2048
	// bits. It is reached only by tokens without a kid, or by a set that gives one kid to many keys.
	maxTries = 32
)

// publicAlgorithms are all that a public key can be for. HMAC is not among them: its key is no public one.
var publicAlgorithms = map[string]bool{
	"RS256": true, "RS384": true, "RS512": true,
	"PS256": true, "PS384": true, "PS512": true,
	"ES256": true, "ES384": true, "ES512": true,
	"EdDSA": true,
}

// key is what signatures are checked with, together with the algorithms it is for: the key pins them (RFC 8725 section
// 3.1), and no token adds one.
type key struct {
	// id is the kid of a key of a JWKS; "" for keys that have none, which fit any token of their algorithms.
	id string
	// kind says for people what it is, such as "RSA of 2048 bits".
	kind string
	// print tells keys apart: a hash of the public key. It is empty for a shared secret, of which nothing is to be shown.
	print string
	// methods are the algorithms, by the name that a header gives them.
	methods map[string]jwt.SigningMethod
	// material is a func for the reason that Secret is one: no print of a Verifier reaches the key.
	material func() any
}

// keyset is several keys, each as good as the others. It is never changed once it is made.
type keyset []key

// verify says whether the signature of t is that of one of the keys. The alg and kid of a token select among the keys
// and cannot add one, so that an RSA key is never taken for an HMAC secret.
func (s keyset) verify(t parsed) error {
	allowed, tries := false, 0
	for _, k := range s {
		method, fits := k.methods[t.alg]
		if !fits {
			continue
		}
		allowed = true
		if t.kid != "" && k.id != "" && t.kid != k.id {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		if method.Verify(t.signed, t.signature, k.material()) == nil {
			return nil
		}
	}
	switch {
	case !allowed:
		return invalid(ruleAlg)
	case tries == 0:
		return invalid(ruleUnknownKey)
	}
	return invalid(ruleSignature)
}

// names reports whether a key has the id kid.
func (s keyset) names(kid string) bool {
	if kid == "" {
		return false
	}
	for _, k := range s {
		if k.id == kid {
			return true
		}
	}
	return false
}

// secretKey is a shared secret as a key.
func secretKey(secret Secret) key {
	return key{
		kind:     "shared secret",
		methods:  methods(jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512),
		material: func() any { return secret.bytes() },
	}
}

// publicKey pins the algorithms of a public key.
func publicKey(public any) (key, error) {
	k := key{material: func() any { return public }}
	switch public := public.(type) {
	case *rsa.PublicKey:
		bits := public.N.BitLen()
		if bits < minRSABits {
			return key{}, fmt.Errorf("RSA key of %d bits: at least %d are needed", bits, minRSABits)
		}
		if bits > maxRSABits {
			return key{}, fmt.Errorf("RSA key of %d bits: at most %d are taken", bits, maxRSABits)
		}
		k.kind = fmt.Sprintf("RSA of %d bits", bits)
		k.methods = methods(jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
			jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512)
	case *ecdsa.PublicKey:
		method := curveMethod(public.Curve)
		if method == nil {
			return key{}, fmt.Errorf("ECDSA key on %s: want P-256, P-384 or P-521", public.Curve.Params().Name)
		}
		k.kind = "ECDSA on " + public.Curve.Params().Name
		k.methods = methods(method)
	case ed25519.PublicKey:
		k.kind = "Ed25519"
		k.methods = methods(jwt.SigningMethodEdDSA)
	default:
		return key{}, fmt.Errorf("key of type %T: want RSA, ECDSA or Ed25519", public)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return key{}, fmt.Errorf("encode %s: %w", k.kind, err)
	}
	hash := sha256.Sum256(der)
	k.print = string(hash[:])
	return k, nil
}

// curveMethod returns the one algorithm of a curve (RFC 7518 section 3.4); nil if it has none.
func curveMethod(curve elliptic.Curve) jwt.SigningMethod {
	switch curve {
	case elliptic.P256():
		return jwt.SigningMethodES256
	case elliptic.P384():
		return jwt.SigningMethodES384
	case elliptic.P521():
		return jwt.SigningMethodES512
	}
	return nil
}

func methods(list ...jwt.SigningMethod) map[string]jwt.SigningMethod {
	byName := make(map[string]jwt.SigningMethod, len(list))
	for _, method := range list {
		byName[method.Alg()] = method
	}
	return byName
}
