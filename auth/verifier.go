package auth

import (
	"context"
	"errors"
	"time"
)

// What a caller branches on. Errors of Verify, BearerFromHeader and Denylist.Check wrap exactly one of them.
var (
	// ErrNoToken says that there was no credential at all. Verify never returns it.
	ErrNoToken = errors.New("no token")
	// ErrInvalidToken says that a token was refused for anything but its age. A client needs another one.
	ErrInvalidToken = errors.New("invalid token")
	// ErrExpiredToken says that a token was good in every respect, but is over. A client needs a fresh one.
	ErrExpiredToken = errors.New("expired token")
	// ErrRevokedToken says that a token is good, but was revoked, by itself or with all tokens of its user. A client needs
	// one that was issued afterwards. Verify never returns it; see Denylist.
	ErrRevokedToken = errors.New("revoked token")
	// ErrAmbiguousCredentials says that a request carries more than one credential.
	ErrAmbiguousCredentials = errors.New("ambiguous credentials")
)

// Principal is who sent a good token. It is made by Verify alone.
type Principal struct {
	// User is the user id, 1 to 256 bytes of UTF-8 without control characters, otherwise opaque.
	User string
	// Issued is the iat claim, in UTC; the zero time if the token has none.
	Issued time.Time
	// Expires is the exp claim as it stands, in UTC and without leeway. A session of this principal must have ended, or
	// shown a fresh token, when Verifier.Leeway has passed after it.
	Expires time.Time
	// TokenID is the jti claim, of the same form as User; empty if the token has none.
	TokenID string
}

// Verifier tells good tokens from others. It is safe for concurrent use, and may be printed and logged as it is.
type Verifier struct {
	cfg    Config     // checked, defaults filled in
	fixed  keyset     // the keys of the configuration
	server *keyServer // nil without a JWKS URL
}

// NewVerifier checks cfg and reads its key files; it asks no key server, which is for Run. The error names everything
// that is wrong, not just the first thing, and contains no part of a secret.
func NewVerifier(cfg Config) (*Verifier, error) {
	cfg, cfgErr := cfg.checked()
	fixed, keyErr := cfg.keys()
	address, urlErr := cfg.keyServer()
	if err := errors.Join(keyErr, urlErr, cfgErr); err != nil {
		return nil, err
	}
	v := &Verifier{cfg: cfg, fixed: fixed}
	if address != nil {
		v.server = newKeyServer(newFetcher(address, cfg.JWKSTransport), fixed, cfg.JWKSRefresh, cfg.Log, cfg.Metrics)
		cfg.Metrics.start()
	}
	return v, nil
}

// Run keeps the keys of the JWKS fresh until ctx ends, and returns nil then. It is called once, and begins with a fetch;
// a key server that is away is no error. Without a JWKS URL it does nothing but wait for ctx.
func (v *Verifier) Run(ctx context.Context) error {
	if v.server == nil {
		<-ctx.Done()
		return nil
	}
	v.server.run(ctx)
	return nil
}

// Fetch gets the JWKS once and says what was wrong. It is for a command that verifies a token and ends, in place of Run
// and never beside it. Without a JWKS URL it does nothing. It returns within five seconds.
func (v *Verifier) Fetch(ctx context.Context) error {
	if v.server == nil {
		return nil
	}
	return v.server.fetchOnce(ctx)
}

// Ready returns nil if there are keys to verify tokens with, or an error that says that the key server has not given
// any yet. Once it was nil it stays so, whatever becomes of the key server.
func (v *Verifier) Ready() error {
	if v.server != nil && len(v.server.keys()) == 0 {
		return errors.New("no keys yet: the key server has not answered with any")
	}
	return nil
}

// Leeway is how long after Principal.Expires a token is still good.
func (v *Verifier) Leeway() time.Duration { return v.cfg.Leeway }

// Verify returns whose token it is. The error wraps ErrExpiredToken or ErrInvalidToken and says which rule refused the
// token; it contains no part of it.
//
// It does not block, but for one case: a token by a key that is not known, while a fetch of the JWKS is under way or may
// start at once, waits for that fetch, two seconds at most. Fetches start no more often than every five seconds, and no
// more than 64 tokens wait; what comes more than that is refused at once.
func (v *Verifier) Verify(token string) (Principal, error) {
	parsed, err := parse(token)
	if err != nil {
		return Principal{}, err
	}
	if v.server != nil {
		err = v.server.verify(parsed)
	} else {
		err = v.fixed.verify(parsed)
	}
	if err != nil {
		return Principal{}, err
	}
	claims, err := decodeObject(parsed.payload)
	if err != nil {
		return Principal{}, invalid(malformed("payload", err))
	}
	return v.principal(claims)
}
