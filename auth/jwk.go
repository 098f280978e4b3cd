package auth

import (
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// maxSetKeys bounds the members of a JWKS. The largest issuers publish about twenty.
const maxSetKeys = 100

var (
	errNotASet = errors.New("no JSON Web Key Set: it has no array keys")
	errTooMany = fmt.Errorf("more than %d keys", maxSetKeys)
	errNoKeys  = errors.New("no key in it can check a signature")
)

// skippedKey is a member of a JWKS that is not used, and why.
type skippedKey struct {
	id     string // may be anything at all
	reason string // constant text
}

// parseJWKS reads a JSON Web Key Set (RFC 7517 section 5). A member that is no key for signatures is skipped, as the RFC
// has it: sets hold keys for other purposes, and of kinds to come. The error is one of a set that says nothing, errNoKeys
// that of one that is right and says that there is no key.
//
// The text is read as strictly as a token's: a member twice at any depth is an error. What a key says about itself is
// judged here; jwkset turns its numbers into a key, and checks that the point of an ECDSA key is on its curve.
func parseJWKS(raw []byte) (keyset, []skippedKey, error) {
	object, err := decodeObject(raw)
	if err != nil {
		return nil, nil, err
	}
	members, isArray := object["keys"].([]any)
	if !isArray {
		// A nil slice is what decodeObject makes of [], and null is no array.
		return nil, nil, errNotASet
	}
	if len(members) > maxSetKeys {
		return nil, nil, errTooMany
	}
	var keys keyset
	var skipped []skippedKey
	for _, member := range members {
		jwk, isObject := member.(map[string]any)
		if !isObject {
			return nil, nil, errNotASet
		}
		k, err := parseJWK(jwk)
		if err != nil {
			id, _ := jwk["kid"].(string)
			skipped = append(skipped, skippedKey{id, err.Error()})
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, skipped, errNoKeys
	}
	return keys, skipped, nil
}

// parseJWK reads one key (RFC 7517 section 4). Its errors are constant texts.
func parseJWK(jwk map[string]any) (key, error) {
	text := func(name string) string {
		value, _ := jwk[name].(string)
		return value
	}
	kty := text("kty")
	switch kty {
	case "RSA", "EC", "OKP":
	case "oct":
		// Whoever can read the set could sign with it. And a key of this kind beside public ones is how a public key comes
		// to be taken for a secret.
		return key{}, errors.New("a shared secret (oct) does not belong into a JWKS")
	default:
		return key{}, errors.New("kty is neither RSA, EC nor OKP")
	}
	if _, present := jwk["d"]; present {
		return key{}, errors.New("the private key is published with it: replace it at the issuer")
	}
	if use, present := jwk["use"]; present && use != "sig" {
		return key{}, errors.New("use is not sig")
	}
	if operations, present := jwk["key_ops"]; present {
		list, _ := operations.([]any)
		if !slices.Contains(list, any("verify")) {
			return key{}, errors.New("key_ops does not hold verify")
		}
	}
	id, present := jwk["kid"]
	if _, isString := id.(string); present && !isString {
		return key{}, errors.New("kid is not a string")
	}
	read, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
		KTY: jwkset.KTY(kty), CRV: jwkset.CRV(text("crv")), X: text("x"), Y: text("y"), N: text("n"), E: text("e"),
	}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		// The library's error repeats what it read, at any length.
		return key{}, errors.New("not a valid public key of its kty and crv")
	}
	k, err := publicKey(read.Key())
	if err != nil {
		return key{}, err
	}
	k.id = text("kid")
	if alg, present := jwk["alg"]; present {
		// The issuer says what the key is for, and that is more than its kind does.
		name, _ := alg.(string)
		method, fits := k.methods[name]
		if !fits {
			return key{}, errors.New("alg is none for signatures by a key of its kind")
		}
		k.methods = map[string]jwt.SigningMethod{name: method}
	}
	return k, nil
}
