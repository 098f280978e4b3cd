package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"
)

// readyLimit is how long a question for readiness may take.
const readyLimit = 2 * time.Second

// adminHeaderLimit is how long a request may take to send its headers.
const adminHeaderLimit = 5 * time.Second

// AdminConfig is what an Admin is made of.
type AdminConfig struct {
	// Listener is where it serves, out of reach of clients. Run closes it.
	Listener net.Listener
	// Ready says whether new clients can be served now, and why not.
	Ready func(context.Context) error
	// Metrics answers GET /metrics.
	Metrics http.Handler
	Log     *slog.Logger
}

// Admin serves the port for the people who run Reelay: /healthz, /readyz, /metrics, /debug/pprof.
type Admin struct {
	config   AdminConfig
	draining atomic.Bool
}

// NewAdmin returns an Admin.
func NewAdmin(config AdminConfig) *Admin { return &Admin{config: config} }

// Drain makes /readyz say no, so that load balancers send nobody here any more.
func (a *Admin) Drain() { a.draining.Store(true) }

// Run serves until ctx ends and returns nil then, or an error when the listener fails.
func (a *Admin) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: a.handler(), ReadHeaderTimeout: adminHeaderLimit,
		ErrorLog: slog.NewLogLogger(a.config.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(a.config.Listener) }() // its end is waited for below
	select {
	case err := <-failed:
		return fmt.Errorf("serve the admin port: %w", err)
	case <-ctx.Done():
	}
	_ = server.Close() // profiles and scrapes are not worth waiting for
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin port: %w", err)
	}
	return nil
}

func (a *Admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { status(w, http.StatusOK, "alive", nil) })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", a.config.Metrics)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		status(w, http.StatusServiceUnavailable, "draining", nil)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyLimit)
	defer cancel()
	if err := a.config.Ready(ctx); err != nil {
		status(w, http.StatusServiceUnavailable, "not ready", err)
		return
	}
	status(w, http.StatusOK, "ready", nil)
}

func status(w http.ResponseWriter, code int, word string, err error) {
	answer := map[string]string{"status": word}
	if err != nil {
		answer["reason"] = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // who asked may have gone
}
