package auth_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/auth"
)

// signedCase is a token with a right signature, so that nothing but the rule named refuses it.
type signedCase struct {
	name    string
	adjust  func(*auth.Config)
	header  string // goodHeader when empty
	payload string // goodPayload when empty
	kind    error  // ErrInvalidToken when nil
	rule    string
}

// wantSignedRefused runs a table of them.
func wantSignedRefused(t *testing.T, tests []signedCase) {
	t.Helper()
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

const (
	badDate  = "between 1970 and 9999"
	inFuture = "is in the future"
	badUser  = "user claim: missing or not a string"
)

func withIssuer(c *auth.Config)   { c.Issuer = "us" }
func withAudience(c *auth.Config) { c.Audience = "reelay" }
func withMaximum(c *auth.Config)  { c.MaxLifetime = time.Hour }

// Attack 9: past its end, or before its time.
func TestAttack09_Dates(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
		{"exp past", nil, "", `{"sub":"alice","exp":1799990000}`, auth.ErrExpiredToken, "exp has passed"},
		{"exp at the end of the leeway", nil, "", `{"sub":"alice","exp":1799999970}`, auth.ErrExpiredToken, "exp has passed"},
		{"exp 0", nil, "", `{"sub":"alice","exp":0}`, auth.ErrExpiredToken, "exp has passed"},
		{"exp past and no user", nil, "", `{"exp":1799990000}`, nil, badUser},
		{"nbf in the future", nil, "", `{"sub":"alice","exp":1800003600,"nbf":1800000031}`, nil, "nbf " + inFuture},
		{"nbf a string", nil, "", `{"sub":"alice","exp":1800003600,"nbf":"1"}`, nil, "nbf is not a number"},
		{"nbf null", nil, "", `{"sub":"alice","exp":1800003600,"nbf":null}`, nil, "nbf is not a number"},
		{"nbf in milliseconds", nil, "", `{"sub":"alice","exp":1800003600,"nbf":1800000000000}`, nil, "nbf is not a number"},
		{"iat in the future", nil, "", `{"sub":"alice","exp":1800003600,"iat":1800000031}`, nil, "iat " + inFuture},
		{"iat a string", nil, "", `{"sub":"alice","exp":1800003600,"iat":"1"}`, nil, "iat is not a number"},
	})
}

// Attack 10: no believable end.
func TestAttack10_End(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
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
		{"lifetime over the maximum", withMaximum, "", `{"sub":"alice","exp":1800003600,"iat":1799999999}`, nil, "maximum lifetime"},
		{"rest of the lifetime over the maximum", withMaximum, "", `{"sub":"alice","exp":1800003601}`, nil, "maximum lifetime"},
		{"lifetime of 8,000 years", withMaximum, "", `{"sub":"alice","exp":253402300799}`, nil, "maximum lifetime"},
	})
}

// Attack 11: from somebody else, or for somebody else.
func TestAttack11_IssuerAndAudience(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
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
	})
}

// Attack 13: a user claim that names nobody for sure.
func TestAttack13_User(t *testing.T) {
	t.Parallel()
	wantSignedRefused(t, []signedCase{
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
	})
}

// Attack 14: what is special elsewhere is a letter here. Whoever puts a user id somewhere encodes it; what could not be
// encoded in a line of a log is refused.
func TestAttack14_UserIsOpaque(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t, secretConfig())
	for _, user := range []string{"*", "a:b", "[x]", "{u1}", "u1 ", "../u1", "u1'; DROP TABLE users; --", "%s", "u1*", "?", "u\u2028"} {
		payload := must(json.Marshal(map[string]any{"sub": user, "exp": 1800003600}))
		if got, err := verifier.Verify(hs256(t, goodHeader, string(payload))); err != nil || got.User != user {
			t.Errorf("got %+v, error %v; want user %q and no other", got, err, user)
		}
	}
	wantSignedRefused(t, []signedCase{
		{"PUBLISH", nil, "", `{"sub":"u1\r\nPUBLISH x","exp":1800003600}`, nil, "control characters"},
		{"escape sequence of a terminal", nil, "", `{"sub":"\u001b[2Ju1","exp":1800003600}`, nil, "control characters"},
	})
}
