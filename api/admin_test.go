package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/api"
)

// inAdmin runs a test with an Admin whose readiness is a function's.
func inAdmin(t *testing.T, ready func(context.Context) error, test func(t *testing.T, admin *api.Admin, get func(path string) (int, string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		memory := newListener()
		metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "reelay_leader 1\n") })
		admin := api.NewAdmin(api.AdminConfig{Listener: memory, Ready: ready, Metrics: metrics, Log: slog.New(slog.DiscardHandler)})
		ctx, end := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- admin.Run(ctx) }()
		test(t, admin, func(path string) (int, string) {
			t.Helper()
			transport := &http.Transport{DialContext: memory.dial, DisableKeepAlives: true}
			request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://reelay.test"+path, nil)
			if err != nil {
				t.Fatalf("make a request: %v", err)
			}
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatalf("GET %s: %v", path, err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatalf("read %s: %v", path, err)
			}
			return response.StatusCode, strings.TrimSpace(string(body))
		})
		end()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
}

func TestAdmin_Serves(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz":             {200, `{"status":"alive"}`},
		"/readyz":              {200, `{"status":"ready"}`},
		"/metrics":             {200, "reelay_leader 1"},
		"/debug/pprof/":        {200, "goroutine"},
		"/debug/pprof/heap":    {200, ""},
		"/debug/pprof/cmdline": {200, filepath.Base(os.Args[0])},
		"/events":              {404, ""},
		"/":                    {404, ""},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			inAdmin(t, func(context.Context) error { return nil }, func(t *testing.T, _ *api.Admin, get func(string) (int, string)) {
				t.Helper()
				status, body := get(path)
				if status != want.status || !strings.Contains(body, want.body) {
					t.Errorf("got %d %.200s, want %d %s", status, body, want.status, want.body)
				}
			})
		})
	}
}

func TestAdmin_Readiness(t *testing.T) {
	t.Parallel()
	var err error
	inAdmin(t, func(context.Context) error { return err }, func(t *testing.T, admin *api.Admin, get func(string) (int, string)) {
		t.Helper()
		check := func(path string, wantStatus int, wantBody string) {
			t.Helper()
			if status, body := get(path); status != wantStatus || body != wantBody {
				t.Errorf("%s: got %d %s, want %d %s", path, status, body, wantStatus, wantBody)
			}
		}
		check("/readyz", 200, `{"status":"ready"}`)
		err = errors.New(`postgres says "no"`)
		check("/readyz", 503, `{"reason":"postgres says \"no\"","status":"not ready"}`)
		err = nil
		check("/readyz", 200, `{"status":"ready"}`)
		admin.Drain()
		check("/readyz", 503, `{"status":"draining"}`)
		check("/healthz", 200, `{"status":"alive"}`)
	})
}

// TestAdmin_ReadinessIsNotWaitedForLong has a question that is not answered: a probe must not wait for it.
func TestAdmin_ReadinessIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	never := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	inAdmin(t, never, func(t *testing.T, _ *api.Admin, get func(string) (int, string)) {
		t.Helper()
		start := time.Now()
		if status, body := get("/readyz"); status != 503 || !strings.Contains(body, "not ready") {
			t.Errorf("got %d %s, want 503", status, body)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v, want 2 s", took)
		}
	})
}

func TestAdmin_ListenerFails(t *testing.T) {
	t.Parallel()
	memory := newListener()
	_ = memory.Close()
	admin := api.NewAdmin(api.AdminConfig{Listener: memory, Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler()})
	if err := admin.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run returned %v, want it to say that the listener failed", err)
	}
}
