package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Mint makes a token for user that a Verifier of the same Config accepts until ttl has passed: HS256 with the shared
// secret, with the configured issuer and audience, a random jti, and dates in whole seconds. It is for trying things
// out and for tests; in production the application's own sign-in issues the tokens.
//
// A Now that stands in the past mints a token that has expired.
func (c Config) Mint(user string, ttl time.Duration) (string, error) {
	if c.Secret.IsZero() {
		return "", errors.New("mint token: a shared JWT secret is needed; a public key cannot sign")
	}
	verifier, err := NewVerifier(c)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	if err := checkName(user); err != nil {
		return "", fmt.Errorf("mint token: user: %w", err)
	}
	if ttl < time.Second {
		return "", fmt.Errorf("mint token: time to live of %v: must be a second or more", ttl)
	}
	now := verifier.cfg.Now().Truncate(time.Second)
	claims := jwt.MapClaims{
		verifier.cfg.UserClaim: user,

		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(ttl).Unix(),
	}
	if c.Issuer != "" {
		claims["iss"] = c.Issuer
	}
	if c.Audience != "" {
		claims["aud"] = c.Audience
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(c.Secret.bytes())
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	// The verifier knows limits that are not repeated here, such as the longest life and the largest token.
	if _, err := verifier.Verify(token); err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return token, nil
}
