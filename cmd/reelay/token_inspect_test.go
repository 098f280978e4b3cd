package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reelay/reelay/auth"
)

// mint makes a token as an application would, with what the gateway's own knows nothing of.
func mint(t *testing.T, ttl time.Duration, past time.Duration, more auth.Claims) string {
	t.Helper()
	config := auth.Config{Secrets: []auth.Secret{auth.NewSecret(testSecret)}, Now: func() time.Time { return time.Now().Add(-past) }}
	token, err := config.Mint("alice", ttl, more)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// checkShared fails if what was printed lets anybody use the token.
func checkShared(t *testing.T, got result, token string) {
	t.Helper()
	signature := token[strings.LastIndexByte(token, '.')+1:]
	for _, part := range []string{signature[:8], token[:24], testSecret} {
		if strings.Contains(got.stdout+got.stderr, part) {
			t.Errorf("the output holds %q:\n%s%s", part, got.stdout, got.stderr)
		}
	}
}

func TestTokenInspect(t *testing.T) {
	t.Parallel()
	good, expired := mint(t, time.Hour, 0, nil), mint(t, time.Minute, 4*time.Minute, auth.Claims{"jti": "t-1"})
	key := []string{"REELAY_JWT_SECRET=" + testSecret}
	tests := []struct {
		name    string
		token   string
		environ []string
		code    int
		want    []string
		stderr  string
	}{
		{"good", good, key, exitOK, []string{"alg  \"HS256\"", "sub  \"alice\"", "expires in ", "accepted, for user alice", "checked with: shared secret"}, ""},
		{"expired", expired, key, exitFailure, []string{"expired 3 minutes ago", "refused: exp has passed\n  Get a fresh token"}, "reelay: the token is refused: exp has passed\n"},
		{"expired, another leeway", expired, append(key, "REELAY_JWT_LEEWAY=5m"), exitOK, []string{"expired 3 minutes ago, within the leeway of 5m0s", "accepted"}, ""},
		{"another issuer", good, append(key, "REELAY_JWT_ISSUER=us"), exitFailure, []string{"refused: iss is not the configured issuer", `note: iss is missing or null in the token, and "us" is configured`}, "iss is not"},
		{"lives too long", good, append(key, "REELAY_JWT_MAX_LIFETIME=10m"), exitFailure, []string{"good for longer than the configured maximum lifetime"}, "lifetime"},
		{"previous secret", good, []string{"REELAY_JWT_SECRET=" + strings.Repeat("x", 32), "REELAY_JWT_PREVIOUS_SECRET=" + testSecret}, exitOK, []string{"accepted", "checked with: shared secret; shared secret"}, ""},
		{"another secret", good, []string{"REELAY_JWT_SECRET=" + strings.Repeat("x", 32)}, exitFailure, []string{"refused: the signature does not match"}, "does not match"},
		{"no key", good, nil, exitOK, []string{"expires in", "not checked: there is no key to check it with; set REELAY_JWT_SECRET"}, ""},
		{"no key, no token", "nonsense", nil, exitFailure, []string{"header: cannot be read", "refused: not three segments"}, "not three segments"},
		{"terminal", mint(t, time.Hour, 0, auth.Claims{"x": "\u009b2J\u202e", "\x1b[2J": strings.Repeat("y", 500)}), key, exitOK, []string{`\u009b2J\u202e`, `\x1b[2J`, "yyy…"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			byArgument := runProgram(t, &program{}, test.environ, "token", "inspect", test.token)
			byStdin := runProgram(t, &program{stdin: strings.NewReader(test.token + "\n")}, test.environ, "token", "inspect", "-")
			for _, got := range []result{byArgument, byStdin} {
				if got.code != test.code || !strings.Contains(got.stderr, test.stderr) || test.stderr == "" && got.stderr != "" {
					t.Errorf("exit code %d with %q, want %d with %q", got.code, got.stderr, test.code, test.stderr)
				}
				for _, want := range test.want {
					if !strings.Contains(got.stdout, want) {
						t.Errorf("the output lacks %q:\n%s", want, got.stdout)
					}
				}
				if strings.ContainsAny(got.stdout, "\x1b\u009b\u202e") {
					t.Errorf("the output moves the cursor: %q", got.stdout)
				}
				if len(test.token) > 24 {
					checkShared(t, got, test.token)
				}
			}
		})
	}
}

// Programs read JSON, and the exit code.
func TestTokenInspect_JSON(t *testing.T) {
	t.Parallel()
	token := mint(t, time.Minute, 4*time.Minute, nil)
	got := runProgram(t, &program{}, []string{"REELAY_JWT_SECRET=" + testSecret}, "token", "inspect", "--json", token)
	var explanation struct {
		Verdict, Rule, Advice string
		Claims                map[string]any
		Dates                 []struct{ Claim, Words string }
	}
	if err := json.Unmarshal([]byte(got.stdout), &explanation); err != nil {
		t.Fatalf("%v:\n%s", err, got.stdout)
	}
	if got.code != exitFailure || explanation.Verdict != "refused" || explanation.Rule != "exp has passed" || explanation.Advice == "" ||
		explanation.Claims["sub"] != "alice" || len(explanation.Dates) != 2 || explanation.Dates[1].Words != "expired 3 minutes ago" {
		t.Errorf("got exit code %d and %+v", got.code, explanation)
	}
	checkShared(t, got, token)
}

// Keys come from files and from a key server as they do in a gateway.
func TestTokenInspect_PublicKeys(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/jwks.json" {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":"%s","y":"%s"}]}`, encode(point[1:33]), encode(point[33:]))
	}))
	t.Cleanup(server.Close)
	sign := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
	sign.Header["kid"] = "k1"
	token, err := sign.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		environ []string
		code    int
		stdout  string
		stderr  string
	}{
		{[]string{"REELAY_JWT_PUBLIC_KEY_FILE=" + file + ", " + file}, exitOK, "accepted", ""},
		{[]string{"REELAY_JWKS_URL=" + server.URL + "/jwks.json", "REELAY_JWKS_INSECURE=true"}, exitOK, `checked with: ECDSA on P-256, kid "k1"`, ""},
		{[]string{"REELAY_JWKS_URL=" + server.URL + "/gone", "REELAY_JWKS_INSECURE=true"}, exitFailure, "refused: the key server has given no keys yet", "the key server brings no keys: it answers with status 404"},
		{[]string{"REELAY_JWKS_URL=" + server.URL + "/jwks.json"}, exitUsage, "", "REELAY_JWKS_URL (--jwks-url): JWKS URL: plain http"},
		{[]string{"REELAY_JWKS_URL=" + server.URL + "/jwks.json", "REELAY_JWT_PREVIOUS_SECRET=" + testSecret}, exitUsage, "", "REELAY_JWT_PREVIOUS_SECRET (--jwt-previous-secret): is set together with REELAY_JWKS_URL"},
	} {
		got := runProgram(t, &program{}, test.environ, "token", "inspect", token)
		if got.code != test.code || !strings.Contains(got.stdout, test.stdout) || !strings.Contains(got.stderr, test.stderr) {
			t.Errorf("%v: got %+v; want exit code %d, %q and %q", test.environ, got, test.code, test.stdout, test.stderr)
		}
	}
}

// A token put where none belongs is not repeated in the error.
func TestToken_IsNotRepeatedInErrors(t *testing.T) {
	t.Parallel()
	token := mint(t, time.Hour, 0, nil)
	for _, args := range [][]string{
		{"token", token},
		{"token", "inspect", token, token},
		{"token", "inspect", "Bearer", token},
		{"token", "inspect", "--" + token},
		{"tail", token},
		{"token", "inspect", "x", strings.Split(token, ".")[0]},
	} {
		got := runProgram(t, &program{}, nil, args...)
		if got.code != exitUsage {
			t.Errorf("exit code %d, want %d", got.code, exitUsage)
		}
		checkShared(t, got, token)
	}
}
