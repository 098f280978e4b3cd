package auth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/reelay/reelay/auth"
)

// holder hides what it holds from fmt's methods: those of unexported fields are never called.
type holder struct {
	config  auth.Config
	secret  auth.Secret
	secrets map[string][]auth.Secret
	deep    *auth.Config
	any     any
}

// Everything that holds the secret, printed in every way there is.
func TestSecret_IsNeverShown(t *testing.T) {
	t.Parallel()
	secret := auth.NewSecret(sharedSecret)
	cfg := secretConfig()
	verifier := newVerifier(t, cfg)
	held := holder{cfg, secret, map[string][]auth.Secret{"x": {secret}}, &cfg, cfg}
	values := map[string]any{
		"secret": secret, "pointer": &secret, "list": []auth.Secret{secret}, "map": map[string]auth.Secret{"x": secret},
		"config": cfg, "config pointer": &cfg, "verifier": verifier, "verifier by value": *verifier,
		"holder": held, "holder pointer": &held,
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, flag := range []string{"", "+", "#", " ", "0", "-"} {
				for _, verb := range "vsqxXdobcUeEgGtpT" {
					wantNoSecret(t, fmt.Sprintf("%"+flag+string(verb), value))
				}
			}
			wantNoSecret(t, fmt.Sprint(value))
			wantNoSecret(t, fmt.Errorf("settings %v", value).Error())
			for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
				encoded, err := encode(value)
				wantNoSecret(t, string(encoded)+fmt.Sprint(err))
			}
			var out bytes.Buffer
			for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				log := slog.New(handler)
				log.Info("settings", "value", value)
				log.With("value", value).WithGroup("g").Info("settings", slog.Group("h", slog.Any("value", value)))
			}
			wantNoSecret(t, out.String())
		})
	}
}

func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	raw := []byte(sharedSecret)
	decimal := strings.Trim(fmt.Sprintf("%d", raw), "[]")
	for _, shape := range []string{
		sharedSecret[:8], sharedSecret[16:24],
		hex.EncodeToString(raw)[:16], strings.ToUpper(hex.EncodeToString(raw))[:16], fmt.Sprintf("% x", raw)[:16],
		base64.StdEncoding.EncodeToString(raw)[:16],
		decimal[:16], strings.ReplaceAll(decimal, " ", ", ")[:16], fmt.Sprintf("%#v", raw)[7:30],
		strings.Trim(fmt.Sprintf("%b", raw), "[]")[:24], strings.Trim(fmt.Sprintf("%o", raw), "[]")[:16],
	} {
		if strings.Contains(text, shape) {
			t.Fatalf("%q shows the secret as %q", text, shape)
		}
	}
}

func TestSecret_PrintsAsRedacted(t *testing.T) {
	t.Parallel()
	const want = "[redacted]"
	secret := auth.NewSecret(sharedSecret)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% X", "%d", "%30v"} {
		if got := fmt.Sprintf(format, secret); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
	if got := secret.String(); got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
	encoded, err := json.Marshal(struct{ Config auth.Config }{secretConfig()})
	if err != nil || !strings.Contains(string(encoded), `"Secrets":["[redacted]"]`) {
		t.Errorf("JSON: got %s, error %v; want Secrets as %q", encoded, err, want)
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(out *bytes.Buffer) slog.Handler { return slog.NewTextHandler(out, nil) },
		"JSON": func(out *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(out, nil) },
	} {
		var out bytes.Buffer
		slog.New(handler(&out)).Info("start", "secret", secret, "config", secretConfig())
		if got := strings.Count(out.String(), want); got != 2 {
			t.Errorf("slog, %s: got %s with %d times %q, want 2", name, out.String(), got, want)
		}
	}
}

func TestSecret_IsASetting(t *testing.T) {
	t.Parallel()
	var secret auth.Secret
	if !secret.IsZero() {
		t.Error("the zero Secret says that it is one")
	}
	if err := secret.UnmarshalText([]byte(sharedSecret)); err != nil || secret.IsZero() {
		t.Fatalf("UnmarshalText: error %v, zero %v", err, secret.IsZero())
	}
	verifier := newVerifier(t, auth.Config{Secrets: []auth.Secret{secret}, Now: atNoon})
	if _, err := verifier.Verify(hs256(t, goodHeader, goodPayload)); err != nil {
		t.Errorf("a secret that was read from text: %v", err)
	}
	if err := secret.UnmarshalText(nil); err != nil || !secret.IsZero() {
		t.Errorf("UnmarshalText of nothing: error %v, zero %v; want none, true", err, secret.IsZero())
	}
}
