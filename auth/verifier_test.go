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
		{"members it does not know", nil, `{"alg":"HS256","kid":7,"cty":null}`, `{"sub":"alice","exp":1800003600,"roles":[{"a":[1,2]},null,true]}`, auth.Principal{User: "alice", Expires: hour}},
		{"keys in the header are ignored", nil, `{"alg":"HS256","jku":"https://127.0.0.1:1/","x5u":"x","x5c":["x"],"jwk":{"kty":"oct"}}`, goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"white space inside JSON", nil, "{ \"alg\" :\n\"HS256\" }", " {\t\"sub\":\"alice\",\r\n\"exp\":1800003600 } ", auth.Principal{User: "alice", Expires: hour}},
		{"escaped names", nil, "", `{"s\u0075b":"al\u0069ce","exp":1800003600}`, auth.Principal{User: "alice", Expires: hour}},
		{"SUB beside sub is another claim", nil, "", `{"SUB":"mallory","ſub":"mallory","sub":"alice","EXP":1,"exp":1800003600}`, auth.Principal{User: "alice", Expires: hour}},
		{"jti", nil, "", `{"sub":"alice","jti":"t-1","exp":1800003600}`, auth.Principal{User: "alice", TokenID: "t-1", Expires: hour}},
		{"exp with a fraction", nil, "", `{"sub":"alice","exp":1800003600.5}`, auth.Principal{User: "alice", Expires: hour.Add(time.Second / 2)}},
		{"exp with an exponent", nil, "", `{"sub":"alice","exp":18000036e2}`, auth.Principal{User: "alice", Expires: hour}},
		{"exp in the last second of 9999", nil, "", `{"sub":"alice","exp":253402300799}`, auth.Principal{User: "alice", Expires: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}},
		{"exp within the leeway", nil, "", `{"sub":"alice","exp":1799999971}`, auth.Principal{User: "alice", Expires: noon.Add(-29 * time.Second)}},
		{"nbf and iat within the leeway", nil, "", `{"sub":"alice","exp":1800003600,"nbf":1800000030,"iat":1800000030}`, auth.Principal{User: "alice", Expires: hour}},
		{"iss and aud where none are configured", nil, "", `{"sub":"alice","exp":1800003600,"iss":"x","aud":5}`, auth.Principal{User: "alice", Expires: hour}},
		{"iss", func(c *auth.Config) { c.Issuer = "us" }, "", `{"sub":"alice","exp":1800003600,"iss":"us"}`, auth.Principal{User: "alice", Expires: hour}},
		{"aud", func(c *auth.Config) { c.Audience = "reelay" }, "", `{"sub":"alice","exp":1800003600,"aud":"reelay"}`, auth.Principal{User: "alice", Expires: hour}},
		{"aud among others", func(c *auth.Config) { c.Audience = "reelay" }, "", `{"sub":"alice","exp":1800003600,"aud":["x","reelay"]}`, auth.Principal{User: "alice", Expires: hour}},
		{"another user claim", func(c *auth.Config) { c.UserClaim = "https://example.com/u.id" }, "", `{"https://example.com/u.id":"bob","sub":"alice","exp":1800003600}`, auth.Principal{User: "bob", Expires: hour}},
		{"lifetime at the maximum", func(c *auth.Config) { c.MaxLifetime = time.Hour }, "", `{"sub":"alice","exp":1800003600,"iat":1800000000}`, auth.Principal{User: "alice", Expires: hour}},
		{"the rest of a lifetime, without iat", func(c *auth.Config) { c.MaxLifetime = time.Hour }, "", goodPayload, auth.Principal{User: "alice", Expires: hour}},
		{"nesting at the limit", nil, "", `{"sub":"alice","exp":1800003600,"x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, auth.Principal{User: "alice", Expires: hour}},
		{"brackets in a string are no nesting", nil, "", `{"sub":"alice","exp":1800003600,"x":"\"` + strings.Repeat("[", 40) + `"}`, auth.Principal{User: "alice", Expires: hour}},
		{"user *", nil, "", `{"sub":"*","exp":1800003600}`, auth.Principal{User: "*", Expires: hour}},
		{"user a:b", nil, "", `{"sub":"a:b","exp":1800003600}`, auth.Principal{User: "a:b", Expires: hour}},
		{"user [x]", nil, "", `{"sub":"[x]","exp":1800003600}`, auth.Principal{User: "[x]", Expires: hour}},
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

// Every token here has a right signature, so that nothing but the rule named refuses it.
func TestVerifier_RefusesSignedTokens(t *testing.T) {
	t.Parallel()
	withIssuer := func(c *auth.Config) { c.Issuer = "us" }
	withAudience := func(c *auth.Config) { c.Audience = "reelay" }
	withMaximum := func(c *auth.Config) { c.MaxLifetime = time.Hour }
	const (
		badDate = "between 1970 and 9999"
		future  = "is in the future"
		badUser = "user claim: missing or not a string"
	)
	tests := []struct {
		name    string
		adjust  func(*auth.Config)
		header  string // goodHeader when empty
		payload string // goodPayload when empty
		kind    error  // ErrInvalidToken when nil
		rule    string
	}{
		{"alg none", nil, `{"alg":"none"}`, "", nil, "alg is none that"},
		{"alg nOnE", nil, `{"alg":"nOnE"}`, "", nil, "alg is none that"},
		{"alg in small letters", nil, `{"alg":"hs256"}`, "", nil, "alg is none that"},
		{"alg empty", nil, `{"alg":""}`, "", nil, "alg is none that"},
		{"alg of another key", nil, `{"alg":"RS256"}`, "", nil, "alg is none that"},
		{"alg that does not exist", nil, `{"alg":"HS999-canary"}`, "", nil, "alg is none that"},
		{"alg a number", nil, `{"alg":256}`, "", nil, "alg is missing or not a string"},
		{"alg null", nil, `{"alg":null}`, "", nil, "alg is missing or not a string"},
		{"alg a list", nil, `{"alg":["HS256"]}`, "", nil, "alg is missing or not a string"},
		{"alg missing", nil, `{"typ":"JWT"}`, "", nil, "alg is missing or not a string"},
		{"ALG", nil, `{"ALG":"HS256"}`, "", nil, "alg is missing or not a string"},
		{"another HMAC than the header says", nil, `{"alg":"HS384"}`, "", nil, "signature"},
		{"alg twice", nil, `{"alg":"HS256","alg":"HS256"}`, "", nil, "header: the same member twice"},
		{"kid twice", nil, `{"alg":"HS256","kid":"a","kid":"a"}`, "", nil, "header: the same member twice"},
		{"twice inside the header", nil, `{"alg":"HS256","jwk":{"a":1,"a":1}}`, "", nil, "header: the same member twice"},
		{"crit", nil, `{"alg":"HS256","crit":["canary-ext"],"canary-ext":1}`, "", nil, "crit"},
		{"crit empty", nil, `{"alg":"HS256","crit":[]}`, "", nil, "crit"},
		{"crit null", nil, `{"alg":"HS256","crit":null}`, "", nil, "crit"},
		{"b64 false", nil, `{"alg":"HS256","b64":false}`, "", nil, "b64"},
		{"b64 true", nil, `{"alg":"HS256","b64":true}`, "", nil, "b64"},
		{"typ of a logout token", nil, `{"alg":"HS256","typ":"logout+jwt"}`, "", nil, "typ"},
		{"typ empty", nil, `{"alg":"HS256","typ":""}`, "", nil, "typ"},
		{"typ null", nil, `{"alg":"HS256","typ":null}`, "", nil, "typ"},
		{"typ a number", nil, `{"alg":"HS256","typ":1}`, "", nil, "typ"},
		{"header no JSON", nil, `{"alg":"HS256"`, "", nil, "header: not JSON"},
		{"header with something after it", nil, `{"alg":"HS256"}{}`, "", nil, "header: not JSON"},
		{"header with a comma too many", nil, `{"alg":"HS256",}`, "", nil, "header: not JSON"},
		{"header with a byte order mark", nil, "\ufeff" + goodHeader, "", nil, "header: not JSON"},
		{"header a list", nil, `["HS256"]`, "", nil, "header: not a JSON object"},
		{"header null", nil, `null`, "", nil, "header: not a JSON object"},
		{"header no UTF-8", nil, "{\"alg\":\"HS256\",\"kid\":\"\xff\"}", "", nil, "header: not UTF-8"},
		{"header deep", nil, `{"alg":"HS256","x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, "", nil, "header: nested too deep"},

		{"sub twice", nil, "", `{"sub":"alice","exp":1800003600,"sub":"mallory-canary"}`, nil, "payload: the same member twice"},
		{"sub twice, once escaped", nil, "", `{"sub":"alice","exp":1800003600,"s\u0075b":"mallory-canary"}`, nil, "payload: the same member twice"},
		{"exp twice", nil, "", `{"sub":"alice","exp":1,"exp":1800003600}`, nil, "payload: the same member twice"},
		{"twice further down", nil, "", `{"sub":"alice","exp":1800003600,"x":[0,{"y":{"z":1,"z":2}}]}`, nil, "payload: the same member twice"},
		{"payload deep", nil, "", `{"sub":"alice","exp":1800003600,"x":` + strings.Repeat(`{"x":`, 16) + `1` + strings.Repeat("}", 16) + `}`, nil, "payload: nested too deep"},
		{"payload very deep", nil, "", strings.Repeat("[", 5000), nil, "payload: nested too deep"},
		{"payload a list", nil, "", `[{"sub":"alice","exp":1800003600}]`, nil, "payload: not a JSON object"},
		{"payload no JSON", nil, "", `sub=alice-canary`, nil, "payload: not JSON"},
		{"payload two documents", nil, "", goodPayload + goodPayload, nil, "payload: not JSON"},
		{"payload with a comment", nil, "", `{"sub":"alice","exp":1800003600}//`, nil, "payload: not JSON"},
		{"escape cut off", nil, "", `{"sub":"alice","exp":1800003600,"x":"\u12`, nil, "payload: not JSON"},
		{"escape cut off after the backslash", nil, "", `{"sub":"alice\`, nil, "payload: not JSON"},

		{"exp past", nil, "", `{"sub":"alice","exp":1799990000}`, auth.ErrExpiredToken, "exp has passed"},
		{"exp at the end of the leeway", nil, "", `{"sub":"alice","exp":1799999970}`, auth.ErrExpiredToken, "exp has passed"},
		{"exp 0", nil, "", `{"sub":"alice","exp":0}`, auth.ErrExpiredToken, "exp has passed"},
		{"exp past and no user", nil, "", `{"exp":1799990000}`, nil, badUser},
		{"exp missing", nil, "", `{"sub":"alice"}`, nil, badDate},
		{"EXP for exp", nil, "", `{"sub":"alice","EXP":1800003600}`, nil, badDate},
		{"exp null", nil, "", `{"sub":"alice","exp":null}`, nil, badDate},
		{"exp a string", nil, "", `{"sub":"alice","exp":"1800003600"}`, nil, badDate},
		{"exp a list", nil, "", `{"sub":"alice","exp":[1800003600]}`, nil, badDate},
		{"exp true", nil, "", `{"sub":"alice","exp":true}`, nil, badDate},
		{"exp 1e300", nil, "", `{"sub":"alice","exp":1e300}`, nil, badDate},
		{"exp 1e999", nil, "", `{"sub":"alice","exp":1e999}`, nil, badDate},
		{"exp 2^63", nil, "", `{"sub":"alice","exp":9223372036854775808}`, nil, badDate},
		{"exp negative", nil, "", `{"sub":"alice","exp":-1800003600}`, nil, badDate},
		{"exp in milliseconds", nil, "", `{"sub":"alice","exp":1800003600000}`, nil, badDate},
		{"exp in the year 10000", nil, "", `{"sub":"alice","exp":253402300800}`, nil, badDate},
		{"nbf in the future", nil, "", `{"sub":"alice","exp":1800003600,"nbf":1800000031}`, nil, "nbf " + future},
		{"nbf a string", nil, "", `{"sub":"alice","exp":1800003600,"nbf":"1"}`, nil, "nbf is not a number"},
		{"nbf null", nil, "", `{"sub":"alice","exp":1800003600,"nbf":null}`, nil, "nbf is not a number"},
		{"nbf in milliseconds", nil, "", `{"sub":"alice","exp":1800003600,"nbf":1800000000000}`, nil, "nbf is not a number"},
		{"iat in the future", nil, "", `{"sub":"alice","exp":1800003600,"iat":1800000031}`, nil, "iat " + future},
		{"iat a string", nil, "", `{"sub":"alice","exp":1800003600,"iat":"1"}`, nil, "iat is not a number"},
		{"lifetime over the maximum", withMaximum, "", `{"sub":"alice","exp":1800003600,"iat":1799999999}`, nil, "maximum lifetime"},
		{"rest of the lifetime over the maximum", withMaximum, "", `{"sub":"alice","exp":1800003601}`, nil, "maximum lifetime"},
		{"lifetime of 8,000 years", withMaximum, "", `{"sub":"alice","exp":253402300799}`, nil, "maximum lifetime"},

		{"iss missing", withIssuer, "", "", nil, "iss"},
		{"iss wrong", withIssuer, "", `{"sub":"alice","exp":1800003600,"iss":"US"}`, nil, "iss"},
		{"iss with more", withIssuer, "", `{"sub":"alice","exp":1800003600,"iss":"us/"}`, nil, "iss"},
		{"iss a list", withIssuer, "", `{"sub":"alice","exp":1800003600,"iss":["us"]}`, nil, "iss"},
		{"ISS", withIssuer, "", `{"sub":"alice","exp":1800003600,"ISS":"us"}`, nil, "iss"},
		{"aud missing", withAudience, "", "", nil, "aud"},
		{"aud wrong", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":"other-canary"}`, nil, "aud"},
		{"aud null", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":null}`, nil, "aud"},
		{"aud an empty list", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":[]}`, nil, "aud"},
		{"aud a list of others", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":["x","y"]}`, nil, "aud"},
		{"aud a list with a number", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":["reelay",1]}`, nil, "aud"},
		{"aud a list in a list", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":[["reelay"]]}`, nil, "aud"},
		{"aud an object", withAudience, "", `{"sub":"alice","exp":1800003600,"aud":{"reelay":true}}`, nil, "aud"},

		{"user missing", nil, "", `{"exp":1800003600}`, nil, badUser},
		{"SUB for sub", nil, "", `{"SUB":"alice","exp":1800003600}`, nil, badUser},
		{"ſub for sub", nil, "", `{"ſub":"alice","exp":1800003600}`, nil, badUser},
		{"sub where another claim is configured", func(c *auth.Config) { c.UserClaim = "uid" }, "", goodPayload, nil, badUser},
		{"a path is no user claim", func(c *auth.Config) { c.UserClaim = "a.b" }, "", `{"a":{"b":"alice"},"exp":1800003600}`, nil, badUser},
		{"user null", nil, "", `{"sub":null,"exp":1800003600}`, nil, badUser},
		{"user a number", nil, "", `{"sub":7,"exp":1800003600}`, nil, badUser},
		{"user a list", nil, "", `{"sub":["alice"],"exp":1800003600}`, nil, badUser},
		{"user empty", nil, "", `{"sub":"","exp":1800003600}`, nil, "user claim: empty"},
		{"user of 257 bytes", nil, "", `{"sub":"` + strings.Repeat("u", 257) + `","exp":1800003600}`, nil, "user claim: over 256 bytes"},
		{"user of 129 letters in 258 bytes", nil, "", `{"sub":"` + strings.Repeat("ü", 129) + `","exp":1800003600}`, nil, "user claim: over 256 bytes"},
		{"user with CRLF", nil, "", `{"sub":"u1\r\nPUBLISH canary","exp":1800003600}`, nil, "control characters"},
		{"user with NUL", nil, "", `{"sub":"u1\u0000","exp":1800003600}`, nil, "control characters"},
		{"user with DEL", nil, "", "{\"sub\":\"u1\u007f\",\"exp\":1800003600}", nil, "control characters"},
		{"user with a C1 control", nil, "", `{"sub":"u1\u0085","exp":1800003600}`, nil, "control characters"},
		{"user no UTF-8", nil, "", "{\"sub\":\"u1\xc3\",\"exp\":1800003600}", nil, "payload: not UTF-8"},
		{"user half a surrogate pair", nil, "", `{"sub":"\ud800","exp":1800003600}`, nil, "payload: half of a surrogate pair"},
		{"user the other half", nil, "", `{"sub":"\udc00","exp":1800003600}`, nil, "payload: half of a surrogate pair"},
		{"user a half and no half", nil, "", `{"sub":"\ud800\u0041","exp":1800003600}`, nil, "payload: half of a surrogate pair"},
		{"jti null", nil, "", `{"sub":"alice","jti":null,"exp":1800003600}`, nil, "jti: missing or not a string"},
		{"jti a number", nil, "", `{"sub":"alice","jti":5,"exp":1800003600}`, nil, "jti: missing or not a string"},
		{"jti with a newline", nil, "", `{"sub":"alice","jti":"a\nb","exp":1800003600}`, nil, "jti: has control characters"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := secretConfig()
			if test.adjust != nil {
				test.adjust(&cfg)
			}
			header, payload, kind := test.header, test.payload, test.kind
			if header == "" {
				header = goodHeader
			}
			if payload == "" {
				payload = goodPayload
			}
			if kind == nil {
				kind = auth.ErrInvalidToken
			}
			token := hs256(t, header, payload)
			got, err := newVerifier(t, cfg).Verify(token)
			wantRefused(t, token, got, err, kind, test.rule)
		})
	}
}

// Each token here is a good one that was changed as text.
func TestVerifier_RefusesOtherSpellings(t *testing.T) {
	t.Parallel()
	good := hs256(t, goodHeader, goodPayload)
	segments := strings.Split(good, ".")
	header, payload, signature := segments[0], segments[1], segments[2]
	// The last letter of 32 bytes in base64 stands for four bits. Another one with the same four decodes to the same bytes.
	strayBits := good[:len(good)-1] + string(alphabet[strings.IndexByte(alphabet, good[len(good)-1])|1])
	if strayBits == good {
		t.Fatal("the test's own signature has stray bits")
	}
	const (
		alphabetRule = "a byte that is not base64url"
		countRule    = "not three segments"
	)
	tests := []struct{ name, token, rule string }{
		{"empty", "", countRule},
		{"one segment", header, countRule},
		{"two segments", header + "." + payload, countRule},
		{"four segments", good + ".", countRule},
		{"five segments", good + "." + header + "." + payload, countRule},
		{"two dots", "..", "a segment is empty"},
		{"no header", "." + payload + "." + signature, "a segment is empty"},
		{"no payload", header + ".." + signature, "a segment is empty"},
		{"no signature", header + "." + payload + ".", "a segment is empty"},
		{"padded", header + "." + payload + "." + signature + "=", alphabetRule},
		{"standard base64", header + "." + payload + "." + strings.Repeat("+/", 21) + "A", alphabetRule},
		{"space before", " " + good, alphabetRule},
		{"space after", good + " ", alphabetRule},
		{"newline after", good + "\n", alphabetRule},
		{"newline inside", good[:20] + "\n" + good[20:], alphabetRule},
		{"carriage return inside", good[:20] + "\r" + good[20:], alphabetRule},
		{"NUL", good + "\x00", alphabetRule},
		{"a letter of another alphabet", header + "." + payload + ".é" + signature, alphabetRule},
		{"Bearer left on", "Bearer " + good, alphabetRule},
		{"stray bits", strayBits, "canonical"},
		{"a length no base64 has", good + "AA", "canonical"},
		{"signature cut short", header + "." + payload + "." + signature[:40], "signature"},
		{"signature of one byte", header + "." + payload + ".AA", "signature"},
		{"signature of another payload", header + "." + encode([]byte(`{"sub":"mallory-canary","exp":1800003600}`)) + "." + signature, "signature"},
		{"header exchanged", encode([]byte(`{"alg":"HS512","typ":"JWT"}`)) + "." + payload + "." + signature, "signature"},
		{"8,193 bytes", header + "." + payload + "." + strings.Repeat("A", 8193-len(header)-len(payload)-2), "too long"},
		{"8,192 bytes", header + "." + payload + "." + strings.Repeat("A", 8192-len(header)-len(payload)-2), "signature"},
		{"4 MB", strings.Repeat("a.", 2<<20), "too long"},
		{"nothing but dots", strings.Repeat(".", 8192), countRule},
		// The payload of a stranger is not looked at: it is the signature that refuses.
		{"unsigned and deep", header + "." + encode([]byte(strings.Repeat("[", 5000))) + "." + signature, "signature"},
		{"unsigned and twice", header + "." + encode([]byte(`{"sub":"a","sub":"b"}`)) + "." + signature, "signature"},
		{"unsigned and expired", header + "." + encode([]byte(`{"sub":"alice","exp":1}`)) + "." + signature, "signature"},
	}
	verifier := newVerifier(t, secretConfig())
	if _, err := verifier.Verify(good); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := verifier.Verify(test.token)
			wantRefused(t, test.token, got, err, auth.ErrInvalidToken, test.rule)
		})
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// A token that is too large is refused although everything else about it is right.
func TestVerifier_SizeLimit(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t, secretConfig())
	pad := func(n int) string {
		return hs256(t, goodHeader, `{"sub":"alice","exp":1800003600,"x":"`+strings.Repeat("x", n)+`"}`)
	}
	n := 6000
	for len(pad(n+1)) <= auth.MaxTokenBytes {
		n++
	}
	if got, err := verifier.Verify(pad(n)); err != nil || got.User != "alice" {
		t.Errorf("%d bytes: got %+v, error %v; want alice", len(pad(n)), got, err)
	}
	larger := pad(n + 1)
	got, err := verifier.Verify(larger)
	wantRefused(t, larger, got, err, auth.ErrInvalidToken, "too long")
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
