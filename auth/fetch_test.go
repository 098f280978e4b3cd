package auth_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/auth"
)

// logBuffer is a log to be read by a test while it is written.
type logBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// newKeyServer is a key server on a port of this machine, with the first P-256 key as a at /jwks.json. Its other paths
// redirect: to /here/..., /there/..., /loop and so on.
func newKeyServer(t *testing.T, secure bool, there string) *httptest.Server {
	t.Helper()
	set := setOf(jwkOf(keys().p256, "a"))
	mux := http.NewServeMux()
	mux.HandleFunc("/jwks.json", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "Referer"} {
			if value := r.Header.Get(name); value != "" {
				t.Errorf("the request carries %s: %q, want nothing of the kind", name, value)
			}
		}
		if r.Method != http.MethodGet || r.ContentLength > 0 {
			t.Errorf("got %s with %d bytes, want a plain GET", r.Method, r.ContentLength)
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "x"})
		_, _ = w.Write([]byte(set))
	})
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/jwks.json", http.StatusFound)
	})
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, there, http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(append(bytes.Repeat([]byte(" "), 10<<20), set...))
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1<<16))
		}
	})
	mux.HandleFunc("/teapot", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(set))
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// With sockets, TLS and our own client: what is fetched, and what is not.
func TestFetch(t *testing.T) {
	t.Parallel()
	var foreign atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		foreign.Add(1)
		_, _ = w.Write([]byte(setOf(jwkOf(keys().otherP256, "b"))))
	}))
	t.Cleanup(elsewhere.Close)
	secure, plain := newKeyServer(t, true, elsewhere.URL), newKeyServer(t, false, elsewhere.URL)
	downgrading := newKeyServer(t, true, "http://"+strings.TrimPrefix(secure.URL, "https://")+"/jwks.json")
	trusting := secure.Client().Transport
	stopped := httptest.NewServer(http.NotFoundHandler())
	stopped.Close()
	tests := []struct {
		name      string
		url       string
		transport http.RoundTripper
		want      string // "" for good
		outcome   string
	}{
		{"TLS", secure.URL + "/jwks.json", trusting, "", "ok"},
		{"TLS, redirect within the host", secure.URL + "/here", trusting, "", "ok"},
		{"TLS, certificate of nobody", secure.URL + "/jwks.json", nil, "certificate", "unreachable"},
		{"TLS, redirect to another host", secure.URL + "/there", trusting, "redirects to another host", "redirect"},
		{"TLS, redirect to plain http", downgrading.URL + "/there", downgrading.Client().Transport, "redirects to another host", "redirect"},
		{"plain", plain.URL + "/jwks.json", nil, "", "ok"},
		{"plain, redirect within the host", plain.URL + "/here", nil, "", "ok"},
		{"plain, redirect to another port", plain.URL + "/there", nil, "redirects to another host", "redirect"},
		{"redirects for ever", plain.URL + "/loop", nil, "redirects more than 3 times", "redirect"},
		{"10 MB", plain.URL + "/large", nil, "larger than 1048576 bytes", "too_large"},
		{"without an end", plain.URL + "/endless", nil, "larger than 1048576 bytes", "too_large"},
		{"another status", plain.URL + "/teapot", nil, "status 418", "status"},
		{"not there", plain.URL + "/none", nil, "status 404", "status"},
		{"nobody listens", stopped.URL, nil, "connection refused", "unreachable"},
		{"query", plain.URL + "/none?code=canary-canary", nil, "status 404", "status"},
		{"query, nobody listens", stopped.URL + "/?code=canary-canary", nil, "connection refused", "unreachable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewRegistry()
			var logged logBuffer
			verifier := newVerifier(t, auth.Config{
				JWKSURL: test.url, JWKSInsecure: true, JWKSTransport: test.transport, Now: atNoon,
				Log: logged.logger(), Metrics: auth.NewMetrics(registry),
			})
			err := verifier.Fetch(t.Context())
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantGood(t, verifier, es256(t, "a"), "the key of the set")
			} else {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got error %v, want one about %q", err, test.want)
				}
				wantBad(t, verifier, es256(t, "a"), "no keys yet")
			}
			wantBad(t, verifier, otherES256(t, "b"), "")
			if text := err; text != nil && strings.Contains(text.Error()+logged.String(), "canary") {
				t.Errorf("the query of the URL is in %q or the log %q", text, logged.String())
			}
			if got := counts(t, registry); got[test.outcome] != 1 || got["all"] != 1 {
				t.Errorf("got the outcomes %v, want one %s", got, test.outcome)
			}
		})
	}
	t.Cleanup(func() {
		if got := foreign.Load(); got != 0 {
			t.Errorf("the other host was asked %d times, want never", got)
		}
	})
}

// counts returns the outcomes of fetches, and their sum as all.
func counts(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		if family.GetName() == "reelay_jwks_fetches_total" {
			for _, metric := range family.GetMetric() {
				value := metric.GetCounter().GetValue()
				got[metric.GetLabel()[0].GetValue()] = value
				got["all"] += value
			}
		}
	}
	return got
}

// gauge returns the value of a gauge without labels.
func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// Plain http is for who asks for it by name, and what is no address is refused at the start, without being repeated.
func TestNewVerifier_RefusesJWKSURLs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		url      string
		insecure bool
		want     string
	}{
		{"http://issuer.example/jwks.json", false, "plain http"},
		{"http://127.0.0.1:1/jwks.json", false, "plain http"},
		{"ftp://issuer.example/canary", true, "not https"},
		{"file:///etc/canary", true, "not of the form"},
		{"issuer.example/canary", false, "not of the form"},
		{"https:canary", false, "not of the form"},
		{"https://:443/canary", false, "not of the form"},
		{"https://u:canary@issuer.example/", false, "user name or password"},
		{"https://u:can%zzary@issuer.example/", false, "not of the form"},
		{"https://issuer.example/#canary", false, "fragment"},
	} {
		_, err := auth.NewVerifier(auth.Config{JWKSURL: test.url, JWKSInsecure: test.insecure})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "%zz") {
			t.Errorf("%s: got %v, want an error about %q that does not repeat it", test.url, err, test.want)
		}
	}
	newVerifier(t, auth.Config{JWKSURL: "https://issuer.example/jwks.json?p=b2c"})
}

// Five seconds are for all of it together, however the time is taken.
func TestFetch_TakesFiveSecondsAtMost(t *testing.T) {
	t.Parallel()
	set := setOf(jwkOf(keys().p256, "a"))
	for name, server := range map[string]*issuer{
		"no answer":         {set: set, delay: time.Hour},
		"a byte at a time":  {set: set, drip: 100 * time.Millisecond},
		"late and slow too": {set: set, delay: 4900 * time.Millisecond, drip: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				verifier := newVerifier(t, serverConfig(server))
				begin := time.Now()
				err := verifier.Fetch(t.Context())
				if took := time.Since(begin); took != 5*time.Second || err == nil || !strings.Contains(err.Error(), "no whole answer within 5s") {
					t.Errorf("got error %v after %v, want the end after 5s", err, took)
				}
			})
		})
	}
}

// The age grows while the key server is away, from the start on where it never came.
func TestMetrics_TellTheAgeOfTheSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		server := &issuer{set: setOf(jwkOf(keys().p256, "a"), jwkOf(keys().rsa, "r")), status: http.StatusBadGateway}
		cfg := serverConfig(server)
		cfg.Metrics = auth.NewMetrics(registry)
		want := func(age, number float64) {
			t.Helper()
			if got := gauge(t, registry, "reelay_jwks_age_seconds"); got != age {
				t.Errorf("age of the set: got %v s, want %v", got, age)
			}
			if got := gauge(t, registry, "reelay_jwks_keys"); got != number {
				t.Errorf("keys: got %v, want %v", got, number)
			}
		}
		want(0, 0)
		verifier := newVerifier(t, cfg)
		pause(t.Context(), 90*time.Second)
		_ = verifier.Fetch(t.Context())
		want(90, 0)
		server.change(func(i *issuer) { i.status = 0 })
		if err := verifier.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), time.Minute)
		want(60, 2)
	})
}

// A proxy sees the name of the key server and nothing that it could use.
func TestFetch_TellsAProxyNothing(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[http.Request]
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Clone(t.Context()))
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(proxy.Close)
	address := must(url.Parse(proxy.URL))
	transport := &http.Transport{Proxy: http.ProxyURL(address), DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	verifier := newVerifier(t, auth.Config{JWKSURL: "https://issuer.example/jwks.json?code=canary", JWKSTransport: transport})
	if err := verifier.Fetch(t.Context()); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got error %v, want one without the query", err)
	}
	got := seen.Load()
	if got == nil || got.Method != http.MethodConnect || strings.Contains(got.RequestURI, "canary") || got.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the proxy saw %+v, want CONNECT and the host alone", got)
	}
}
