package auth_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

func TestVerifier_AcceptsGoodTokens(t *testing.T) {
	t.Parallel()
	hour := noon.Add(time.Hour)
	tests := []struct {
		name    string
		adjust  func(*auth.Config)
		header  string // goodHeader when empty
		payload string
		want    auth.Principal
	}{
		{"the least", nil, `{"alg":"HS256"}`, goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"typ in small letters", nil, `{"alg":"HS256","typ":"jwt"}`, goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"access token (RFC 9068)", nil, `{"alg":"HS256","typ":"AT+JWT"}`, goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"members it does not know", nil, `{"alg":"HS256","kid":"7","cty":null}`, `{"sub":"alice","exp":1800003600,"roles":[{"a":[1,2]},null,true]}`, auth.Principal{User: "alice", Expires: hour}},
		{"keys in the header are ignored", nil, `{"alg":"HS256","jku":"https://127.0.0.1:1/","x5u":"x","x5c":["x"],"jwk":{"kty":"oct"}}`, goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"white space inside JSON", nil, "{ \"alg\" :\n\"HS256\" }", " {\t\"sub\":\"alice\",\r\n\"exp\":1800003600 } ", auth.Principal{User: "alice", Expires: hour}},
		{"escaped names", nil, "", `{"s\u0075b":"al\u0069ce","exp":1800003600}`, auth.Principal{User: "alice", Expires: hour}},
		{"SUB beside sub is another claim", nil, "", `{"SUB":"mallory","ſub":"mallory","sub":"alice","EXP":1,"exp":1800003600}`, auth.Principal{User: "alice", Expires: hour}},
		{"jti", nil, "", `{"sub":"alice","jti":"t-1","exp":1800003600}`, auth.Principal{User: "alice", TokenID: "t-1", Expires: hour}},
		{"exp with a fraction", nil, "", `{"sub":"alice","exp":1800003600.5}`, auth.Principal{User: "alice", Expires: hour.Add(time.Second / 2)}},
		{"exp with an exponent", nil, "", `{"sub":"alice","exp":18000036e2}`, auth.Principal{User: "alice", Expires: hour}},
		{"exp in the last second of 9999", nil, "", `{"sub":"alice","exp":253402300799}`, auth.Principal{User: "alice", Expires: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}},
		{"exp within the leeway", nil, "", `{"sub":"alice","exp":1799999971}`, auth.Principal{User: "alice", Expires: noon.Add(-29 * time.Second)}},
		{"nbf and iat within the leeway", nil, "", `{"sub":"alice","exp":1800003600,"nbf":1800000030,"iat":1800000030}`, auth.Principal{User: "alice", Issued: noon.Add(30 * time.Second), Expires: hour}},
		{"iss and aud where none are configured", nil, "", `{"sub":"alice","exp":1800003600,"iss":"x","aud":5}`, auth.Principal{User: "alice", Expires: hour}},
		{"iss", func(c *auth.Config) { c.Issuer = "us" }, "", `{"sub":"alice","exp":1800003600,"iss":"us"}`, auth.Principal{User: "alice", Expires: hour}},
		{"aud", func(c *auth.Config) { c.Audience = "reelay" }, "", `{"sub":"alice","exp":1800003600,"aud":"reelay"}`, auth.Principal{User: "alice", Expires: hour}},
		{"aud among others", func(c *auth.Config) { c.Audience = "reelay" }, "", `{"sub":"alice","exp":1800003600,"aud":["x","reelay"]}`, auth.Principal{User: "alice", Expires: hour}},
		{"another user claim", func(c *auth.Config) { c.UserClaim = "https://example.com/u.id" }, "", `{"https://example.com/u.id":"bob","sub":"alice","exp":1800003600}`, auth.Principal{User: "bob", Expires: hour}},
		{"lifetime at the maximum", func(c *auth.Config) { c.MaxLifetime = time.Hour }, "", `{"sub":"alice","exp":1800003600,"iat":1800000000}`, auth.Principal{User: "alice", Issued: noon, Expires: hour}},
		{"the rest of a lifetime, without iat", func(c *auth.Config) { c.MaxLifetime = time.Hour }, "", goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"nesting at the limit", nil, "", `{"sub":"alice","exp":1800003600,"x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, auth.Principal{User: "alice", Expires: hour}},
		{"brackets in a string are no nesting", nil, "", `{"sub":"alice","exp":1800003600,"x":"\"` + strings.Repeat("[", 40) + `"}`, auth.Principal{User: "alice", Expires: hour}},
		{"user with a pair of surrogates", nil, "", `{"sub":"\ud83c\udfac","exp":1800003600}`, auth.Principal{User: "🎬", Expires: hour}},
		{"user U+FFFD, meant so", nil, "", `{"sub":"\ufffd","exp":1800003600}`, auth.Principal{User: "\ufffd", Expires: hour}},
		{"user with an escaped backslash before u", nil, "", `{"sub":"\\ud800","exp":1800003600}`, auth.Principal{User: `\ud800`, Expires: hour}},
		{"user of 256 bytes", nil, "", `{"sub":"` + strings.Repeat("u", 256) + `","exp":1800003600}`, auth.Principal{User: strings.Repeat("u", 256), Expires: hour}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := secretConfig()
			if test.adjust != nil {
				test.adjust(&cfg)
			}
			header := test.header
			if header == "" {
				header = goodHeader
			}
			got, err := newVerifier(t, cfg).Verify(hs256(t, header, test.payload))
			if err != nil || got != test.want {
				t.Errorf("got %+v, error %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestVerifier_RefusesMalformedJSON(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
		{"kid a number", nil, `{"alg":"HS256","kid":7}`, "", nil, "kid is not a string"},
		{"kid null", nil, `{"alg":"HS256","kid":null}`, "", nil, "kid is not a string"},
		{"header no JSON", nil, `{"alg":"HS256"`, "", nil, "header: not JSON"},
		{"header with something after it", nil, `{"alg":"HS256"}{}`, "", nil, "header: not JSON"},
		{"header with a comma too many", nil, `{"alg":"HS256",}`, "", nil, "header: not JSON"},
		{"header with a byte order mark", nil, "\ufeff" + goodHeader, "", nil, "header: not JSON"},
		{"header a list", nil, `["HS256"]`, "", nil, "header: not a JSON object"},
		{"header null", nil, `null`, "", nil, "header: not a JSON object"},
		{"header no UTF-8", nil, "{\"alg\":\"HS256\",\"kid\":\"\xff\"}", "", nil, "header: not UTF-8"},
		{"payload a list", nil, "", `[{"sub":"alice","exp":1800003600}]`, nil, "payload: not a JSON object"},
		{"payload no JSON", nil, "", `sub=alice-canary`, nil, "payload: not JSON"},
		{"payload two documents", nil, "", goodPayload + goodPayload, nil, "payload: not JSON"},
		{"payload with a comment", nil, "", `{"sub":"alice","exp":1800003600}//`, nil, "payload: not JSON"},
		{"escape cut off", nil, "", `{"sub":"alice","exp":1800003600,"x":"\u12`, nil, "payload: not JSON"},
		{"escape cut off after the backslash", nil, "", `{"sub":"alice\`, nil, "payload: not JSON"},
	})
}

func TestVerifier_ExpiresWithTheClock(t *testing.T) {
	t.Parallel()
	now := noon
	cfg := secretConfig()
	cfg.Leeway = 5 * time.Second
	cfg.Now = func() time.Time { return now }
	verifier := newVerifier(t, cfg)
	if got := verifier.Leeway(); got != 5*time.Second {
		t.Errorf("Leeway: got %v, want 5s", got)
	}
	token := hs256(t, goodHeader, goodPayload)
	principal, err := verifier.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	end := principal.Expires.Add(verifier.Leeway())
	now = end.Add(-time.Nanosecond)
	if _, err := verifier.Verify(token); err != nil {
		t.Errorf("just before the end: %v", err)
	}
	now = end
	got, err := verifier.Verify(token)
	wantRefused(t, token, got, err, auth.ErrExpiredToken, "exp has passed")
}

func TestVerifier_DefaultLeeway(t *testing.T) {
	t.Parallel()
	if got := newVerifier(t, secretConfig()).Leeway(); got != 30*time.Second {
		t.Errorf("got %v, want 30s", got)
	}
}

// Meaningful under -race.
func TestVerifier_ConcurrentUse(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t, keyConfig(t, keys().p256))
	var users [8]string
	var wg sync.WaitGroup
	for i := range users {
		want := fmt.Sprintf("user-%d", i)
		token := forge(t, jwt.SigningMethodES256, keys().p256, `{"alg":"ES256"}`, `{"sub":"`+want+`","exp":1800003600}`)
		wg.Go(func() {
			for range 20 {
				if got, err := verifier.Verify(token); err != nil || got.User != want {
					t.Errorf("got %+v, error %v; want %s", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkVerify(b *testing.B) {
	b.Run("HS256", func(b *testing.B) {
		verifier, token := newVerifier(b, secretConfig()), hs256(b, goodHeader, goodPayload)
		benchmark(b, verifier, token, true)
	})
	b.Run("ES256", func(b *testing.B) {
		token := forge(b, jwt.SigningMethodES256, keys().p256, `{"alg":"ES256"}`, goodPayload)
		benchmark(b, newVerifier(b, keyConfig(b, keys().p256)), token, true)
	})
	b.Run("refused 8 KiB", func(b *testing.B) {
		junk := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", 6000)))
		benchmark(b, newVerifier(b, secretConfig()), encode([]byte(goodHeader))+"."+junk+".AAAA", false)
	})
}

func benchmark(b *testing.B, verifier *auth.Verifier, token string, good bool) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifier.Verify(token); (err == nil) != good {
			b.Fatal(err)
		}
	}
}
