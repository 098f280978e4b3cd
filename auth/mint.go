package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims are claims that Mint adds to a token, by name.
type Claims map[string]any

// Mint makes a token for user that a Verifier of the same Config accepts until ttl has passed: HS256 with the first
// shared secret, with the configured issuer and audience, a random jti, and iat and exp in whole seconds. It is for
// trying things out and for tests; in production the application's own sign-in issues the tokens.
//
// Claims are added, the later ones winning over the earlier; of those that Mint sets itself only jti may be among them.
// A Now that stands in the past mints a token that has expired.
func (c Config) Mint(user string, ttl time.Duration, more ...Claims) (string, error) {
	secrets := c.secrets()
	if len(secrets) == 0 {
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
	claims := jwt.MapClaims{"jti": rand.Text()}
	for _, some := range more {
		for name, value := range some {
			if slices.Contains(takenClaims, name) && name != "jti" && name != "nbf" || name == verifier.cfg.UserClaim {
				return "", fmt.Errorf("mint token: claim %q: it is set by what the token is made for", name)
			}
			claims[name] = value
		}
	}
	now := verifier.cfg.Now().Truncate(time.Second)
	claims[verifier.cfg.UserClaim] = user
	claims["iat"] = now.Unix()
	claims["exp"] = now.Add(ttl).Unix()
	if c.Issuer != "" {
		claims["iss"] = c.Issuer
	}
	if c.Audience != "" {
		claims["aud"] = c.Audience
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secrets[0].bytes())
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	// The verifier knows limits that are not repeated here, such as the longest life and the largest token.
	if _, err := verifier.Verify(token); err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return token, nil
}
