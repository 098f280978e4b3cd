package auth

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	defaultUserClaim = "sub"
	defaultLeeway    = 30 * time.Second

	// maxLeeway is where a leeway stops being one: clocks that differ by more are broken, and every minute of it is a
	// minute for which an expired token goes on being good.
	maxLeeway = 10 * time.Minute

	// minSecretBytes is the size of HS256's own output, below which RFC 7518 section 3.2 forbids a key. A shorter one
	// can be guessed at home by anyone who has a single token.
	minSecretBytes = 32
)

// takenClaims have a meaning of their own. Named as user claim, some of them would make all users the same one.
var takenClaims = []string{"iss", "aud", "exp", "nbf", "iat", "jti"}

// Config says which tokens are good. Exactly one of Secret and PublicKeyFile is set; everything else has a default.
// It may be printed and logged as it is.
type Config struct {
	// Secret is shared with whoever issues the tokens: HS256, HS384, HS512. At least 32 bytes.
	Secret Secret
	// PublicKeyFile is the path of a PEM file with the issuer's public key: RSA (2048 bits or more), ECDSA (P-256, P-384,
	// P-521) or Ed25519, as SPKI ("PUBLIC KEY"), PKCS #1 ("RSA PUBLIC KEY") or a certificate. It is read once.
	PublicKeyFile string
	// Issuer, unless empty, is what iss must be, byte for byte.
	Issuer string
	// Audience, unless empty, is what aud must be or must contain, byte for byte.
	Audience string
	// UserClaim names the claim that holds the user id; sub when empty. It is a member of the payload itself, spelled
	// exactly so: a dot in it is a dot.
	UserClaim string
	// Leeway is granted to clocks that differ: in the checks of exp, nbf and iat. 0 means 30 s.
	Leeway time.Duration
	// MaxLifetime, unless 0, is the longest a token may be good for: from iat to exp, or from now where it has no iat.
	MaxLifetime time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time `json:"-"` // a func is an error to encoding/json, which would hide the rest from a JSON log
}

// checked returns c with its defaults filled in, and everything that is wrong with it apart from the key.
func (c Config) checked() (Config, error) {
	var errs []error
	if c.UserClaim == "" {
		c.UserClaim = defaultUserClaim
	}
	if slices.Contains(takenClaims, c.UserClaim) {
		errs = append(errs, fmt.Errorf("user claim %q: it has a meaning of its own; take sub or one that names the user", c.UserClaim))
	}
	if c.Leeway == 0 {
		c.Leeway = defaultLeeway
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		errs = append(errs, fmt.Errorf("token leeway %v: must be between 0 and %v", c.Leeway, maxLeeway))
	}
	if c.MaxLifetime < 0 {
		errs = append(errs, fmt.Errorf("maximum token lifetime %v: must not be negative; 0 means no limit", c.MaxLifetime))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, errors.Join(errs...)
}

// keys opens the one key that c names.
func (c Config) keys() (keyset, error) {
	var errs []error
	switch {
	case c.Secret.IsZero() && c.PublicKeyFile == "":
		return keyset{}, errors.New("no key to verify tokens with: set a shared JWT secret or a JWT public key file")
	case !c.Secret.IsZero() && c.PublicKeyFile != "":
		// Nothing would go wrong here, since an algorithm belongs to one kind of key. But whoever sets both trusts two
		// issuers and most likely knows of one.
		errs = append(errs, errors.New("both a shared JWT secret and a JWT public key file are set: keep the one your issuer signs with"))
	}
	var keys keyset
	if !c.Secret.IsZero() {
		keys = secretKeys(c.Secret)
		errs = append(errs, checkSecret(c.Secret))
	}
	if c.PublicKeyFile != "" {
		public, err := publicKeys(c.PublicKeyFile)
		keys, errs = public, append(errs, err)
	}
	return keys, errors.Join(errs...)
}

func checkSecret(secret Secret) error {
	raw := secret.bytes()
	if len(raw) < minSecretBytes {
		return fmt.Errorf("shared JWT secret of %d bytes: at least %d are needed; make one with: openssl rand -base64 48",
			len(raw), minSecretBytes)
	}
	// A public key as shared secret is a secret that everybody has.
	if bytes.Contains(raw, []byte("-----BEGIN ")) {
		return errors.New("shared JWT secret is a PEM file: a public key belongs into the JWT public key file, a private key stays with the issuer")
	}
	return nil
}
