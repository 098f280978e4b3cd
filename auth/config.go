package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
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

// Config says which tokens are good. It names keys of one sort: Secrets, or PublicKeyFiles and JWKSURL; everything else
// has a default. It may be printed and logged as it is.
type Config struct {
	// Secrets are shared with whoever issues the tokens: HS256, HS384, HS512. At least 32 bytes each. Tokens by any of them
	// are good, and the first one signs what Mint makes: to replace a secret, put the new one before the old, have the
	// issuer sign with the new, and take the old away when its tokens have expired. Zero ones are left out.
	Secrets []Secret
	// PublicKeyFiles are the paths of PEM files with the issuer's public keys, each with one or more: RSA (2048 to 8192
	// bits), ECDSA (P-256, P-384, P-521) or Ed25519, as SPKI ("PUBLIC KEY"), PKCS #1 ("RSA PUBLIC KEY") or a certificate.
	// They are read once. Tokens by any of them are good, whatever their kid.
	PublicKeyFiles []string
	// JWKSURL is where the issuer publishes its keys (RFC 7517). Run gets them and keeps them fresh.
	JWKSURL string
	// JWKSInsecure allows a JWKSURL of plain http, on which anybody on the way can exchange the keys.
	JWKSInsecure bool
	// JWKSRefresh is how old the keys of the JWKS grow while no token with another one comes, within a tenth; 0 means five
	// minutes. A key that the issuer takes out of its set goes on being good for so long.
	JWKSRefresh time.Duration
	// JWKSTransport makes the requests for the JWKS; nil means our own, by the proxy of the environment if there is one.
	JWKSTransport http.RoundTripper `json:"-"`
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
	// Log is told of the key server: when its keys change, when it is away and when it is back. None when nil.
	Log *slog.Logger `json:"-"`
	// Metrics counts what comes of the JWKS. None when nil.
	Metrics *Metrics `json:"-"`
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
	if c.JWKSRefresh == 0 {
		c.JWKSRefresh = defaultRefresh
	}
	if c.JWKSRefresh < minRefresh {
		errs = append(errs, fmt.Errorf("JWKS refresh %v: must be %v or more", c.JWKSRefresh, minRefresh))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	c.Secrets = c.secrets()
	return c, errors.Join(errs...)
}

// secrets returns the secrets that are some.
func (c Config) secrets() []Secret {
	return slices.DeleteFunc(slices.Clone(c.Secrets), Secret.IsZero)
}

// keys opens the keys that c holds and names. Those of a JWKS are not among them.
func (c Config) keys() (keyset, error) {
	var errs []error
	secrets := c.secrets()
	public := len(c.PublicKeyFiles) > 0 || c.JWKSURL != ""
	switch {
	case len(secrets) == 0 && !public:
		return nil, errors.New("no key to verify tokens with: set a shared JWT secret, a JWT public key file or a JWKS URL")
	case len(secrets) > 0 && public:
		// An algorithm belongs to one kind of key, so nothing would go wrong here at once. But beside a secret a public key,
		// which everybody has, is one mistake away from being taken for one; and whoever sets both trusts two issuers and
		// most likely knows of one.
		errs = append(errs, errors.New("both a shared JWT secret and public keys (a file or a JWKS URL) are set: keep the one your issuer signs with"))
	}
	var keys keyset
	for _, secret := range secrets {
		keys = append(keys, secretKey(secret))
		errs = append(errs, checkSecret(secret))
	}
	for _, path := range c.PublicKeyFiles {
		read, err := readKeyFile(path)
		keys, errs = append(keys, read...), append(errs, err)
	}
	if len(keys) > maxConfigured {
		errs = append(errs, fmt.Errorf("%d keys to verify tokens with: at most %d, since each costs time with every token", len(keys), maxConfigured))
	}
	return keys, errors.Join(errs...)
}

// keyServer returns the address of the JWKS; nil if there is none.
func (c Config) keyServer() (*url.URL, error) {
	if c.JWKSURL == "" {
		return nil, nil //nolint:nilnil // none is a fine answer
	}
	return checkJWKSURL(c.JWKSURL, c.JWKSInsecure)
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
