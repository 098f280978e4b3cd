package main

import (
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/auth"
)

func TestToken_IsAcceptedByAGatewayOfTheSameSettings(t *testing.T) {
	t.Parallel()
	environ := goodSettings("REELAY_JWT_ISSUER=https://issuer", "REELAY_JWT_AUDIENCE=events", "REELAY_JWT_USER_CLAIM=uid")
	for _, secret := range []string{"REELAY_JWT_SECRET=" + testSecret, "REELAY_JWT_SECRET_FILE=" + writeFile(t, testSecret+"\n")} {
		settings := append([]string{secret}, environ[2:]...)
		got := runProgram(t, &program{}, settings, "token", "--user", "alice", "--ttl", "10m")
		if got.code != exitOK || got.stderr != "" {
			t.Fatalf("got %+v", got)
		}
		token := strings.TrimSuffix(got.stdout, "\n")
		config, err := parseServe(t, append(settings, "REELAY_DATABASE_URL=postgres:///app"))
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := auth.NewVerifier(config.JWT)
		if err != nil {
			t.Fatal(err)
		}
		principal, err := verifier.Verify(token)
		if err != nil {
			t.Fatalf("the gateway refuses %q: %v", token, err)
		}
		if left := time.Until(principal.Expires); principal.User != "alice" || left < 9*time.Minute || left > 10*time.Minute {
			t.Errorf("got user %q for %v, want alice for ten minutes", principal.User, left)
		}
	}
}

func TestToken_SaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		environ []string
		args    []string
		code    int
		want    string
	}{
		{nil, nil, exitUsage, "REELAY_JWT_SECRET (--jwt-secret): is not set"},
		{goodSettings(), []string{"--ttl", "0s"}, exitFailure, "must be a second or more"},
		{goodSettings(), []string{"--user", ""}, exitFailure, "mint token: user"},
	} {
		args := append([]string{"token", "--user", "alice"}, test.args...)
		if got := runProgram(t, &program{}, test.environ, args...); got.code != test.code || !strings.Contains(got.stderr, test.want) || got.stdout != "" {
			t.Errorf("%v: got %+v, want exit code %d and %q", args, got, test.code, test.want)
		}
	}
}
