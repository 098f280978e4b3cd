package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/auth"
)

func TestMint_MakesWhatItsVerifierAccepts(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	cfg.Issuer, cfg.Audience, cfg.UserClaim, cfg.MaxLifetime = "us", "reelay", "uid", time.Hour
	verifier := newVerifier(t, cfg)
	seen := make(map[string]bool)
	for _, user := range []string{"alice", "*", "a:b", "<b>&", "ü 🎬\u2028", strings.Repeat("u", 256), "alice"} {
		token, err := cfg.Mint(user, time.Hour)
		if err != nil {
			t.Fatalf("Mint for %q: %v", user, err)
		}
		got, err := verifier.Verify(token)
		if err != nil || got.User != user || !got.Issued.Equal(noon) || !got.Expires.Equal(noon.Add(time.Hour)) {
			t.Errorf("got %+v, error %v; want %q until one o'clock", got, err, user)
		}
		if got.TokenID == "" || seen[got.TokenID] {
			t.Errorf("token id %q is empty or was given before", got.TokenID)
		}
		seen[got.TokenID] = true
	}
}

// A token says what an issuer's would say, so that it can be tried on other verifiers.
func TestMint_Claims(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	cfg.Issuer, cfg.Audience = "us", "reelay"
	cfg.Now = func() time.Time { return noon.Add(999 * time.Millisecond) }
	token, err := cfg.Mint("alice", 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	segments := strings.Split(token, ".")
	var got struct {
		header  map[string]any
		payload map[string]any
	}
	if err := errors.Join(json.Unmarshal(decode(t, segments[0]), &got.header), json.Unmarshal(decode(t, segments[1]), &got.payload)); err != nil {
		t.Fatal(err)
	}
	delete(got.payload, "jti")
	want := "{map[alg:HS256 typ:JWT] map[aud:reelay exp:1.80000009e+09 iat:1.8e+09 iss:us sub:alice]}"
	if text := fmt.Sprint(got); text != want {
		t.Errorf("got %s, want %s", text, want)
	}
}

// What an issuer of one's own would add. What the token is made for is not to be had by the back door.
func TestMint_AddsClaims(t *testing.T) {
	t.Parallel()
	cfg := secretConfig()
	token, err := cfg.Mint("alice", time.Hour, auth.Claims{"jti": "t-1", "role": "x", "nbf": 1}, auth.Claims{"role": []string{"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := newVerifier(t, cfg).Verify(token)
	want := auth.Principal{User: "alice", Issued: noon, Expires: noon.Add(time.Hour), TokenID: "t-1"}
	if err != nil || got != want {
		t.Errorf("got %+v, error %v; want %+v", got, err, want)
	}
	payload := string(decode(t, strings.Split(token, ".")[1]))
	if !strings.Contains(payload, `"role":["admin"]`) || !strings.Contains(payload, `"nbf":1,`) {
		t.Errorf("got %s, want the later role and nbf", payload)
	}
	cfg.UserClaim = "uid"
	for _, claim := range []string{"uid", "exp", "iat", "iss", "aud"} {
		if token, err := cfg.Mint("alice", time.Hour, auth.Claims{claim: 1}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("claim %q", claim)) {
			t.Errorf("%s: got token %q, error %v; want it refused", claim, token, err)
		}
	}
	for _, claims := range []auth.Claims{{"jti": 5}, {"nbf": 1900000000}, {"x": make(chan int)}, {"x": strings.Repeat("x", 9000)}} {
		if token, err := cfg.Mint("alice", time.Hour, claims); err == nil {
			t.Errorf("%v: got token %q, want an error", claims, token)
		}
	}
}

func TestMint_ExpiredTokenForTests(t *testing.T) {
	t.Parallel()
	past := secretConfig()
	past.Now = func() time.Time { return noon.Add(-time.Hour) }
	token, err := past.Mint("alice", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	got, err := newVerifier(t, secretConfig()).Verify(token)
	wantRefused(t, token, got, err, auth.ErrExpiredToken, "exp has passed")
}

func TestMint_Refuses(t *testing.T) {
	t.Parallel()
	with := func(adjust func(*auth.Config)) auth.Config {
		cfg := secretConfig()
		adjust(&cfg)
		return cfg
	}
	tests := []struct {
		name string
		cfg  auth.Config
		user string
		ttl  time.Duration
		want string
	}{
		{"no secret", auth.Config{}, "alice", time.Hour, "a shared JWT secret is needed"},
		{"a public key", keyConfig(t, keys().p256), "alice", time.Hour, "a public key cannot sign"},
		{"short secret", auth.Config{Secrets: []auth.Secret{auth.NewSecret(sharedSecret[:31])}}, "alice", time.Hour, "at least 32"},
		{"a user claim with a meaning", with(func(c *auth.Config) { c.UserClaim = "exp" }), "alice", time.Hour, `user claim "exp"`},
		{"no user", secretConfig(), "", time.Hour, "user: empty"},
		{"user too long", secretConfig(), strings.Repeat("u", 257), time.Hour, "user: over 256 bytes"},
		{"user with a newline", secretConfig(), "a\nb", time.Hour, "user: has control characters"},
		{"user no UTF-8", secretConfig(), "a\xff", time.Hour, "user: not UTF-8"},
		{"no time", secretConfig(), "alice", 0, "time to live"},
		{"negative time", secretConfig(), "alice", -time.Hour, "time to live"},
		{"longer than allowed", with(func(c *auth.Config) { c.MaxLifetime = time.Hour }), "alice", 2 * time.Hour, "maximum lifetime"},
		{"too large", with(func(c *auth.Config) { c.Issuer = strings.Repeat("i", 9000) }), "alice", time.Hour, "too long"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			token, err := test.cfg.Mint(test.user, test.ttl)
			if err == nil || token != "" || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got token %q, error %v; want an error about %q", token, err, test.want)
			}
			wantNoLeak(t, err.Error(), sharedSecret)
		})
	}
}
