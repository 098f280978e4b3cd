package auth

import (
	"errors"
	"fmt"
	"time"
)

// What a caller branches on. Errors of Verify and BearerFromHeader wrap exactly one of them.
var (
	// ErrNoToken says that there was no credential at all. Verify never returns it.
	ErrNoToken = errors.New("no token")
	// ErrInvalidToken says that a token was refused for anything but its age. A client needs another one.
	ErrInvalidToken = errors.New("invalid token")
	// ErrExpiredToken says that a token was good in every respect, but is over. A client needs a fresh one.
	ErrExpiredToken = errors.New("expired token")
	// ErrAmbiguousCredentials says that a request carries more than one credential.
	ErrAmbiguousCredentials = errors.New("ambiguous credentials")
)

// invalid wraps ErrInvalidToken with the rule that refused a token. A rule is constant text: what came from the token
// stays out of it, and the rules can be counted.
func invalid(rule string) error {
	return fmt.Errorf("%w: %s", ErrInvalidToken, rule)
}

// Principal is who sent a good token. It is made by Verify alone.
type Principal struct {
	// User is the user id, 1 to 256 bytes of UTF-8 without control characters, otherwise opaque.
	User string
	// Expires is the exp claim as it stands, without leeway. A session of this principal must have ended, or shown a
	// fresh token, when Verifier.Leeway has passed after it.
	Expires time.Time
	// TokenID is the jti claim, of the same form as User; empty if the token has none.
	TokenID string
	// Issued is the iat claim; zero if the token has none.
	Issued time.Time
}

// ErrRevokedToken says that a token was good and is refused now.
var ErrRevokedToken = errors.New("revoked")

// Verifier tells good tokens from others. It is safe for concurrent use, and may be printed and logged as it is.
type Verifier struct {
	cfg  Config // checked, defaults filled in
	keys keyset
}

// NewVerifier checks cfg and reads its key file. The error names everything that is wrong, not just the first thing,
// and contains no part of the secret.
func NewVerifier(cfg Config) (*Verifier, error) {
	cfg, cfgErr := cfg.checked()
	keys, keyErr := cfg.keys()
	if err := errors.Join(keyErr, cfgErr); err != nil {
		return nil, err
	}
	return &Verifier{cfg: cfg, keys: keys}, nil
}

// Leeway is how long after Principal.Expires a token is still good.
func (v *Verifier) Leeway() time.Duration { return v.cfg.Leeway }

// Verify returns whose token it is. The error wraps ErrExpiredToken or ErrInvalidToken and says which rule refused the
// token; it contains no part of it.
func (v *Verifier) Verify(token string) (Principal, error) {
	parsed, err := parse(token)
	if err != nil {
		return Principal{}, err
	}
	if err := v.keys.verify(parsed.alg, parsed.signed, parsed.signature); err != nil {
		return Principal{}, err
	}
	claims, err := decodeObject(parsed.payload)
	if err != nil {
		return Principal{}, fmt.Errorf("%w: payload: %w", ErrInvalidToken, err)
	}
	return v.principal(claims)
}
