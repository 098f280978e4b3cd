package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxNameBytes bounds a user id and a token id: they become channel names, log attributes and map keys.
	maxNameBytes = 256

	// maxDate is the last second of the year 9999, the last one that RFC 3339 can write. An exp in milliseconds, the
	// common mistake, lies far behind it; taken for seconds, it would make a token that is good for 50,000 years.
	maxDate = 253402300799
)

var errNotString = errors.New("missing or not a string")

// principal judges the claims of a token whose signature was found right. The expiry comes last, so that
// ErrExpiredToken says that nothing else was wrong.
func (v *Verifier) principal(claims map[string]any) (Principal, error) {
	user, err := nameClaim(claims, v.cfg.UserClaim)
	if err != nil {
		return Principal{}, invalid(ruleName(v.cfg.UserClaim, err))
	}
	var tokenID string
	if _, present := claims["jti"]; present {
		if tokenID, err = nameClaim(claims, "jti"); err != nil {
			return Principal{}, invalid(ruleName("jti", err))
		}
	}
	if issuer, _ := claims["iss"].(string); v.cfg.Issuer != "" && issuer != v.cfg.Issuer {
		return Principal{}, invalid(ruleIssuer)
	}
	if v.cfg.Audience != "" && !isFor(claims["aud"], v.cfg.Audience) {
		return Principal{}, invalid(ruleAudience)
	}
	issued, expires, err := v.dates(claims)
	if err != nil {
		return Principal{}, err
	}
	return Principal{User: user, Issued: issued, Expires: expires, TokenID: tokenID}, nil
}

// dates judges iat, nbf and exp, and returns the first, zero if the token has none, and the last.
func (v *Verifier) dates(claims map[string]any) (issued, expires time.Time, err error) {
	now := v.cfg.Now()
	latest := now.Add(v.cfg.Leeway)
	if _, err := begin(claims, "nbf", latest); err != nil {
		return time.Time{}, time.Time{}, err
	}
	issued, err = begin(claims, "iat", latest)
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	expires, isDate := dateOf(claims["exp"])
	if !isDate {
		return time.Time{}, time.Time{}, invalid(ruleExp)
	}
	from := issued
	if from.IsZero() {
		from = now // of a token that does not say, what remains of its life is measured
	}
	if v.cfg.MaxLifetime > 0 && expires.Sub(from) > v.cfg.MaxLifetime {
		return time.Time{}, time.Time{}, invalid(ruleLifetime)
	}
	if !now.Before(expires.Add(v.cfg.Leeway)) {
		return time.Time{}, time.Time{}, refusal{ErrExpiredToken, ruleExpired}
	}
	return issued, expires, nil
}

// begin returns the date claim, one that must not be after latest; the zero time if the token has none.
func begin(claims map[string]any, claim string, latest time.Time) (time.Time, error) {
	value, present := claims[claim]
	if !present {
		return time.Time{}, nil
	}
	date, isDate := dateOf(value)
	if !isDate {
		return time.Time{}, invalid(ruleNoDate(claim))
	}
	if date.After(latest) {
		return time.Time{}, invalid(ruleFuture(claim))
	}
	return date, nil
}

// dateOf reads a NumericDate (RFC 7519 section 2): seconds since 1970, with a fraction or without.
func dateOf(value any) (time.Time, bool) {
	number, isNumber := value.(json.Number)
	if !isNumber {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxDate {
		return time.Time{}, false
	}
	// A float64 holds seconds of this size with microseconds to spare.
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
}

// isFor says whether aud, a string or an array of strings, is or contains audience. Another form names nobody.
func isFor(aud any, audience string) bool {
	switch aud := aud.(type) {
	case string:
		return aud == audience
	case []any:
		for _, one := range aud {
			if _, isString := one.(string); !isString {
				return false
			}
		}
		return slices.Contains(aud, any(audience))
	}
	return false
}

// nameClaim returns the claim as a string that can name something.
func nameClaim(claims map[string]any, claim string) (string, error) {
	name, isString := claims[claim].(string)
	if !isString {
		return "", errNotString
	}
	return name, checkName(name)
}

// checkName is the one rule for user ids and token ids. Control characters are out because ids are read by people in
// terminals and logs; every other byte is the application's business.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("empty")
	case len(name) > maxNameBytes:
		return fmt.Errorf("over %d bytes", maxNameBytes)
	case !utf8.ValidString(name):
		return errNotUTF8
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("has control characters")
	}
	return nil
}
