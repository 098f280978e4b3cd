package auth_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

// FuzzVerify tries a token as it is, and one whose header and payload are signed as they are. Whatever is accepted must
// be accepted by golang-jwt as well, with the same user: our rules may only ever take tokens away.
func FuzzVerify(f *testing.F) {
	f.Add(hs256(f, goodHeader, goodPayload), goodHeader, goodPayload)
	f.Add("a.b.c", `{"alg":"none"}`, `{"sub":"alice","exp":1e300}`)
	f.Add("..", `{"alg":"HS256","crit":[]}`, `{"sub":"alice","sub":"bob","exp":1800003600}`)
	f.Add("", `{"alg":"HS256","typ":"at+jwt","kid":"x"}`, `{"s\u0075b":"\ud83c\udfac","exp":1800003600.5,"nbf":1,"iat":1,"aud":["a","b"],"iss":"x","jti":"y"}`)
	f.Add(strings.Repeat("A", 9000), `{"alg":"HS256","x":[[[{"y":null}]]]}`, `{"ſub":"a","SUB":"b","sub":"\ud800","exp":1800003600}`)
	verifier := newVerifier(f, secretConfig())
	reference := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(30*time.Second), jwt.WithTimeFunc(atNoon))
	secret := func(*jwt.Token) (any, error) { return []byte(sharedSecret), nil }
	f.Fuzz(func(t *testing.T, raw, header, payload string) {
		for _, token := range []string{raw, hs256(t, header, payload)} {
			principal, err := verifier.Verify(token)
			if err != nil {
				if errors.Is(err, auth.ErrInvalidToken) == errors.Is(err, auth.ErrExpiredToken) {
					t.Errorf("error %v is not exactly one of invalid and expired", err)
				}
				if errors.Is(err, auth.ErrExpiredToken) && !strings.HasPrefix(err.Error(), "expired token: exp has passed") {
					t.Errorf("expired for another reason: %v", err)
				}
				continue
			}
			claims := jwt.MapClaims{}
			if _, err := reference.ParseWithClaims(token, claims, secret); err != nil {
				t.Fatalf("accepted %q, which golang-jwt refuses: %v", token, err)
			}
			user := principal.User
			if claims["sub"] != any(user) || user == "" || len(user) > 256 || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
				t.Errorf("accepted %q as user %q, whom golang-jwt reads as %v", token, user, claims["sub"])
			}
			if !noon.Before(principal.Expires.Add(verifier.Leeway())) || principal.Expires.Year() > 9999 {
				t.Errorf("accepted %q, which expires at %v", token, principal.Expires)
			}
		}
	})
}

// FuzzBearerFromHeader checks that a token found stands in the header as a word of its own, that no other place offers
// another one, and that every other outcome is one of the three errors.
func FuzzBearerFromHeader(f *testing.F) {
	f.Add("Bearer a.b.c", "", "reelay.v1, reelay.bearer.a.b.c", "")
	f.Add("bearer a", "Bearer b", "reelay.bearer.a", "reelay.bearer.b")
	f.Add("Basic YTpi", "", "reelay.v1,,reelay.bearer.", "\t x")
	f.Fuzz(func(t *testing.T, authorization, authorization2, protocol, protocol2 string) {
		header := http.Header{}
		for _, value := range []string{authorization, authorization2} {
			if value != "" {
				header.Add("Authorization", value)
			}
		}
		for _, value := range []string{protocol, protocol2} {
			if value != "" {
				header.Add("Sec-WebSocket-Protocol", value)
			}
		}
		token, source, err := auth.BearerFromHeader(header)
		if err != nil {
			known := []error{auth.ErrNoToken, auth.ErrInvalidToken, auth.ErrAmbiguousCredentials}
			if token != "" || source != "" || !slices.ContainsFunc(known, func(kind error) bool { return errors.Is(err, kind) }) {
				t.Fatalf("got %q from %q with error %v", token, source, err)
			}
			return
		}
		if token == "" || strings.ContainsAny(token, " \t,") {
			t.Fatalf("got %q, which is not one word", token)
		}
		var entries []string
		for entry := range strings.SplitSeq(protocol+","+protocol2, ",") {
			if entry = strings.Trim(entry, " \t"); strings.HasPrefix(entry, auth.BearerSubprotocol) {
				entries = append(entries, entry)
			}
		}
		values := header.Values("Authorization")
		if len(values) > 1 || len(entries) > 1 || len(entries) == 1 && entries[0] != auth.BearerSubprotocol+token {
			t.Fatalf("got %q from %q beside %q", token, source, entries)
		}
		switch source {
		case auth.SourceAuthorization:
			if !strings.EqualFold(values[0][:len("Bearer")], "Bearer") || values[0][len("Bearer")+1:] != token {
				t.Fatalf("got %q from %q", token, values[0])
			}
		case auth.SourceSubprotocol:
			if len(entries) != 1 {
				t.Fatalf("got %q from no entry of %q", token, entries)
			}
			if len(values) == 1 && strings.HasPrefix(strings.ToLower(values[0]), "bearer ") {
				t.Fatalf("got %q from the entry although the header %q holds one", token, values[0])
			}
		default:
			t.Fatalf("got %q from the unknown source %q", token, source)
		}
	})
}
