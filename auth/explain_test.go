package auth_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

func TestExplain_SaysWhichRuleRefused(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	cfg.Issuer, cfg.Audience = "us", "reelay"
	verifier := newVerifier(t, cfg)
	good := hs256(t, `{"alg":"HS256","kid":"k1"}`, `{"sub":"alice","iss":"us","aud":"reelay","jti":"t-1","iat":1799999940,"exp":1800003600}`)
	tests := []struct {
		name, token string
		verdict     auth.Verdict
		rule        string
		advice      string
		words       string // of the date that matters
		note        string
	}{
		{"good", good, auth.Accepted, "", "", "expires in 1 hour", ""},
		{"not long ago", good, auth.Accepted, "", "", "issued 1 minute ago", ""},
		{"expired", hs256(t, goodHeader, `{"sub":"alice","iss":"us","aud":"reelay","exp":1799999820}`), auth.Refused, "exp has passed", "Get a fresh token", "expired 3 minutes ago", "no iat"},
		{"expired within the leeway", hs256(t, goodHeader, `{"sub":"alice","iss":"us","aud":"reelay","exp":1799999980}`), auth.Accepted, "", "", "expired 20 seconds ago, within the leeway of 30s", "no jti"},
		{"expired long ago", hs256(t, goodHeader, `{"sub":"alice","iss":"us","aud":"reelay","exp":1700000000}`), auth.Refused, "exp has passed", "clocks", "expired 3 years ago", ""},
		{"milliseconds", hs256(t, goodHeader, `{"sub":"alice","iss":"us","aud":"reelay","exp":1800003600000}`), auth.Refused, "exp is missing or not a number of seconds between 1970 and 9999", "not milliseconds", "", "divided by 1000 it is 2027-01-15T09:00:00Z"},
		{"not yet", hs256(t, goodHeader, `{"sub":"alice","iss":"us","aud":"reelay","exp":1800003600,"nbf":1800000120}`), auth.Refused, "nbf is in the future", "clock", "not good before 2 minutes from now", ""},
		{"issuer", hs256(t, goodHeader, `{"sub":"alice","iss":"us/","exp":1800003600}`), auth.Refused, "iss is not the configured issuer", "a slash at the end counts", "", `iss is "us/" in the token, and "us" is configured`},
		{"audience", hs256(t, goodHeader, `{"sub":"alice","iss":"us","exp":1800003600}`), auth.Refused, "aud is not the configured audience", "another service", "", `aud is missing or null in the token, and "reelay" is configured`},
		{"user", hs256(t, goodHeader, `{"sub":7,"exp":1800003600}`), auth.Refused, "user claim: missing or not a string", "in quotes", "", `the claim "sub", which is 7 here`},
		{"signature", forge(t, jwt.SigningMethodHS256, []byte(previousSecret), goodHeader, goodPayload), auth.Refused, "the signature does not match", "byte for byte", "expires in 1 hour", ""},
		{"algorithm", es256(t, "a"), auth.Refused, "header: alg is none that the configured keys allow", "HS* need the shared secret", "expires in 1 hour", ""},
		{"key in the header", hs256(t, `{"alg":"HS256","jku":"https://x"}`, goodPayload), auth.Refused, "iss is not the configured issuer", "", "", "offers a key by jku"},
		{"crit", hs256(t, `{"alg":"HS256","crit":["x"]}`, goodPayload), auth.Refused, "header: crit is not supported", "RFC 7515", "expires in 1 hour", ""},
		{"same member twice", hs256(t, goodHeader, `{"sub":"a","sub":"b"}`), auth.Refused, "payload: the same member twice", "one meaning", "", ""},
		{"five segments", "a.b.c.d.e", auth.Refused, "not three segments", "JWE", "", ""},
		{"opaque", "v2.local", auth.Refused, "not three segments", "opaque", "", ""},
		{"Bearer", "Bearer " + good, auth.Refused, "a byte that is not base64url", "no \"Bearer\" before it", "", ""},
		{"nothing", "", auth.Refused, "not three segments", "header.payload.signature", "", ""},
		{"too long", strings.Repeat("a", 9000), auth.Refused, "too long", "8 KiB", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := auth.Explain(test.token, verifier, noon)
			if got.Verdict != test.verdict || got.Rule != test.rule || !strings.Contains(got.Advice, test.advice) || (got.Rule == "") != (got.Advice == "") {
				t.Errorf("got %s by %q with %q; want %s by %q with %q", got.Verdict, got.Rule, got.Advice, test.verdict, test.rule, test.advice)
			}
			var words []string
			for _, date := range got.Dates {
				words = append(words, date.Words)
			}
			if text := strings.Join(words, "; "); !strings.Contains(text, test.words) {
				t.Errorf("got the dates %q, want %q", text, test.words)
			}
			if text := strings.Join(got.Notes, "\n"); !strings.Contains(text, test.note) {
				t.Errorf("got the notes %q, want %q", text, test.note)
			}
			if (got.User == "alice") != (test.verdict == auth.Accepted) {
				t.Errorf("got user %q of a token that is %s", got.User, got.Verdict)
			}
			wantNoSignature(t, got, test.token)
		})
	}
	got := auth.Explain(good, verifier, noon)
	if got.Header["kid"] != "k1" || got.Claims["jti"] != "t-1" || len(got.Keys) != 1 || got.Keys[0] != "shared secret" || got.Notes != nil {
		t.Errorf("got %+v, want what the token says, and no notes on a token that has everything", got)
	}
}

// wantNoSignature checks that no one could use what is shown.
func wantNoSignature(t *testing.T, got auth.Explanation, token string) {
	t.Helper()
	text := string(must(json.Marshal(got)))
	signature := token[strings.LastIndexByte(token, '.')+1:]
	if len(signature) >= 8 && strings.Contains(text, signature[:8]) || len(token) > 16 && strings.Contains(text, token[:16]) {
		t.Errorf("the explanation shows the signature or the token: %s", text)
	}
	if strings.Contains(text, sharedSecret[:8]) {
		t.Errorf("the explanation shows the secret: %s", text)
	}
}

// Without a verifier nothing is judged but the form.
func TestExplain_WithoutKeys(t *testing.T) {
	t.Parallel()
	got := auth.Explain(hs256(t, goodHeader, `{"sub":"alice","exp":1799999820}`), nil, noon)
	if got.Verdict != auth.Unchecked || got.Rule != "" || got.User != "" || got.Claims["sub"] != "alice" || got.Dates[0].Words != "expired 3 minutes ago" || got.Keys != nil {
		t.Errorf("got %+v, want it explained and not judged", got)
	}
	if got := auth.Explain("x", nil, noon); got.Verdict != auth.Refused || got.Rule != "not three segments" {
		t.Errorf("got %+v, want refused what nobody accepts", got)
	}
}

func TestExplain_WithAKeyServer(t *testing.T) {
	t.Parallel()
	k := keys()
	server := &issuer{err: errors.New("connection refused"), set: setOf(jwkOf(k.p256, "a"), jwkOf(k.rsa, "r", jwk{"alg": "RS256"}), jwkOf(k.ed25519, ""))}
	verifier := newVerifier(t, serverConfig(server))
	if err := verifier.Fetch(t.Context()); err == nil {
		t.Error("a fetch without a connection brings no error")
	}
	got := auth.Explain(es256(t, "a"), verifier, noon)
	if got.Rule != "the key server has given no keys yet" || !strings.Contains(got.Advice, "curl") {
		t.Errorf("got %+v, want that there are no keys", got)
	}
	server.change(func(i *issuer) { i.err = nil })
	if err := verifier.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	got = auth.Explain(es256(t, "b"), verifier, noon)
	if got.Rule != "header: kid names no key of the key server" || !strings.Contains(got.Advice, "JWKS") {
		t.Errorf("got %+v, want that the kid is unknown", got)
	}
	if text := strings.Join(got.Keys, "; "); text != `ECDSA on P-256, kid "a"; RSA of 2048 bits, kid "r"; Ed25519` {
		t.Errorf("got the keys %q", text)
	}
}

func TestExplain_TellsTimesInWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		after time.Duration // noon to exp
		want  string
	}{
		{0, "expired less than a second ago"},
		{time.Second, "expires in 1 second"},
		{59 * time.Second, "expires in 59 seconds"},
		{61 * time.Second, "expires in 1 minute 1 second"},
		{-179 * time.Second, "expired 2 minutes 59 seconds ago"},
		{-10*time.Minute - time.Second, "expired 10 minutes ago"},
		{time.Hour, "expires in 1 hour"},
		{-150 * time.Minute, "expired 2 hours 30 minutes ago"},
		{25 * time.Hour, "expires in 1 day 1 hour"},
		{100 * 24 * time.Hour, "expires in 100 days"},
		{-400 * 24 * time.Hour, "expired 1 year 35 days ago"},
	} {
		token := hs256(t, goodHeader, string(must(json.Marshal(map[string]any{"sub": "alice", "exp": noon.Add(test.after).Unix()}))))
		if got := auth.Explain(token, nil, noon); len(got.Dates) != 1 || got.Dates[0].Words != test.want {
			t.Errorf("%v: got %+v, want %q", test.after, got.Dates, test.want)
		}
	}
}

// FuzzExplain checks that an explanation agrees with Verify, shows no signature, and is of every text.
func FuzzExplain(f *testing.F) {
	f.Add(hs256(f, goodHeader, goodPayload), goodHeader, goodPayload)
	f.Add("a.b.c", `{"alg":"none","jku":7}`, `{"exp":1e300,"iat":-1,"nbf":1800000000.5}`)
	f.Add("..", `[]`, `{"sub":"\u001b[2J","exp":1800003600000,"aud":[[]],"iss":{}}`)
	verifier := newVerifier(f, secretConfig())
	f.Fuzz(func(t *testing.T, raw, header, payload string) {
		for _, token := range []string{raw, hs256(t, header, payload)} {
			_, err := verifier.Verify(token)
			got := auth.Explain(token, verifier, noon)
			if (got.Verdict == auth.Accepted) != (err == nil) || (got.Verdict == auth.Refused) != (got.Rule != "" && got.Advice != "") {
				t.Fatalf("got %+v, and Verify says %v", got, err)
			}
			if err != nil && !strings.HasSuffix(err.Error(), got.Rule) {
				t.Fatalf("got the rule %q, and Verify says %v", got.Rule, err)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Fatal(err)
			}
			if alone := auth.Explain(token, nil, noon); alone.Verdict == auth.Accepted {
				t.Fatalf("accepted by nobody: %+v", alone)
			}
		}
	})
}
