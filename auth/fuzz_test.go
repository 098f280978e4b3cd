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

// FuzzVerify tries a token as it is, and ones whose header and payload are signed as they are, with a shared secret and
// with a key of a JWKS. Whatever is accepted must be accepted by golang-jwt as well, with the same user: our rules may
// only ever take tokens away.
func FuzzVerify(f *testing.F) {
	f.Add(hs256(f, goodHeader, goodPayload), goodHeader, goodPayload)
	f.Add(es256(f, "a"), `{"alg":"ES256","kid":"a"}`, goodPayload)
	f.Add("a.b.c", `{"alg":"none"}`, `{"sub":"alice","exp":1e300}`)
	f.Add("..", `{"alg":"HS256","crit":[]}`, `{"sub":"alice","sub":"bob","exp":1800003600}`)
	f.Add("", `{"alg":"HS256","typ":"at+jwt","kid":"x"}`, `{"s\u0075b":"\ud83c\udfac","exp":1800003600.5,"nbf":1,"iat":1,"aud":["a","b"],"iss":"x","jti":"y"}`)
	f.Add("", `{"alg":"ES256","kid":"b","jwk":{"kty":"EC"}}`, `{"sub":"alice","exp":1800003600,"iat":1799999999.5}`)
	f.Add(strings.Repeat("A", 9000), `{"alg":"HS256","x":[[[{"y":null}]]]}`, `{"ſub":"a","SUB":"b","sub":"\ud800","exp":1800003600}`)
	k := keys()
	byServer := newVerifier(f, serverConfig(&issuer{set: setOf(jwkOf(k.p256, "a"), jwkOf(k.rsa, "r"))}))
	if err := byServer.Fetch(f.Context()); err != nil {
		f.Fatal(err)
	}
	configured := []struct {
		verifier *auth.Verifier
		alg      string
		key      any
	}{
		{newVerifier(f, secretConfig()), "HS256", []byte(sharedSecret)},
		{byServer, "ES256", k.p256.Public()},
	}
	f.Fuzz(func(t *testing.T, raw, header, payload string) {
		for _, token := range []string{raw, hs256(t, header, payload), forge(t, jwt.SigningMethodES256, k.p256, header, payload)} {
			for _, c := range configured {
				principal, err := c.verifier.Verify(token)
				if err != nil {
					wantOneKind(t, err)
					continue
				}
				reference := jwt.NewParser(jwt.WithValidMethods([]string{c.alg}), jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
					jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(30*time.Second), jwt.WithTimeFunc(atNoon))
				claims := jwt.MapClaims{}
				if _, err := reference.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return c.key, nil }); err != nil {
					t.Fatalf("accepted %q, which golang-jwt refuses: %v", token, err)
				}
				wantSame(t, token, principal, claims)
			}
		}
	})
}

// wantOneKind checks that an error of Verify says what a caller branches on.
func wantOneKind(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, auth.ErrInvalidToken) == errors.Is(err, auth.ErrExpiredToken) {
		t.Errorf("error %v is not exactly one of invalid and expired", err)
	}
	if errors.Is(err, auth.ErrExpiredToken) && err.Error() != "expired token: exp has passed" {
		t.Errorf("expired for another reason: %v", err)
	}
}

// wantSame checks that a principal is the one that another reader of the claims sees.
func wantSame(t *testing.T, token string, principal auth.Principal, claims jwt.MapClaims) {
	t.Helper()
	user := principal.User
	if claims["sub"] != any(user) || user == "" || len(user) > 256 || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		t.Errorf("accepted %q as user %q, whom golang-jwt reads as %v", token, user, claims["sub"])
	}
	if !noon.Before(principal.Expires.Add(30*time.Second)) || principal.Expires.Year() > 9999 {
		t.Errorf("accepted %q, which expires at %v", token, principal.Expires)
	}
	if _, says := claims["iat"]; says == principal.Issued.IsZero() || principal.Issued.After(noon.Add(30*time.Second)) {
		t.Errorf("accepted %q as issued at %v, and its iat is %v", token, principal.Issued, claims["iat"])
	}
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
