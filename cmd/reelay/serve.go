package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/reelay/reelay/api"
	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/pg"
)

// component is a long-lived part: Run is its life, and returns nil when ctx ends.
type component interface {
	Run(ctx context.Context) error
}

// bus is what carries events between replicas: the leader publishes to it, the hub hears it.
type bus interface {
	hub.Bus
	Publish(ctx context.Context, batch hub.Batch) error
}

// Run implements command.
func (s *serveCommand) Run(ctx context.Context, p *program) error {
	config, err := s.config()
	if err != nil {
		return err
	}
	log := newLogger(config, p.stderr)
	for _, warning := range p.warnings {
		log.WarnContext(ctx, "environment", "warning", warning)
	}
	return serve(ctx, config, log)
}

// serve is a whole replica, from its settings to its end.
func serve(ctx context.Context, config Config, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	config.JWT.Log, config.JWT.Metrics = log, auth.NewMetrics(registry)
	verifier, err := auth.NewVerifier(config.JWT)
	if err != nil {
		return err
	}
	metrics := pg.NewMetrics(registry)
	events, err := openLog(ctx, config, metrics, log)
	if err != nil {
		return err
	}
	defer events.Close()
	carrier, kept, err := newBus(config, events, log, registry)
	if err != nil {
		return err
	}
	var tickets api.TicketStore // nil: api keeps them itself
	if kept != nil {
		tickets = kept
		defer func() { _ = kept.Close() }() // nobody uses it any more
	}
	public, err := listen(ctx, config.Listen)
	if err != nil {
		return err
	}
	private, err := listen(ctx, config.AdminListen)
	if err != nil {
		_ = public.Close()
		return err
	}

	relay := pg.NewRelay(pg.RelayConfig{
		URL: config.DatabaseURL.Reveal(), Retention: config.Retention, Wake: pg.Wake(config.Wake), Log: log, Metrics: metrics,
	}, carrier)
	denied := auth.NewDenylist(nil)
	var server *api.Server
	revocations := pg.NewRevocations(events, func(r pg.Revocation) {
		denied.Add(auth.Revocation{User: r.User, TokenID: r.TokenID, At: r.At, Until: r.Until, Reason: r.Reason})
		server.Revoke(r.User, r.TokenID)
		log.DebugContext(ctx, "revoked", "user", r.User, "at", r.At, "until", r.Until, "reason", r.Reason) // a token's id is not told
	}, log, metrics)
	tokens := gate{verifier, denied, revocations.Loaded}
	listeners := hub.New(carrier, events, log, hub.NewMetrics(registry))
	server = api.NewServer(api.Config{
		Listener: public, AllowedOrigins: config.AllowedOrigins, Cookie: config.Cookie, TokenInURL: config.TokenInURL,
		TrustedProxies: config.TrustedProxies, Limits: config.Limits, Tickets: tickets, Replica: config.Replica,
		Verifier: tokens, Hub: listeners, Log: log, Metrics: api.NewMetrics(registry),
	})
	admin := api.NewAdmin(api.AdminConfig{
		Listener: private, Log: log, Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Ready: func(ctx context.Context) error { return errors.Join(listeners.Ready(ctx), tokens.Ready()) },
	})
	context.AfterFunc(ctx, admin.Drain)
	log.InfoContext(ctx, "serving", "listen", public.Addr().String(), "admin", private.Addr().String(),
		"database", config.DatabaseURL.String(), "redis", config.RedisURL.String(), "replica", config.Replica, "version", version)
	defer log.InfoContext(context.WithoutCancel(ctx), "stopped")
	return supervise(ctx, server, events, verifier, revocations, listeners, relay, admin)
}

// newBus returns the bus between replicas, and where they keep tickets; or, where there is no Redis, the bus within this
// replica, and nil.
func newBus(config Config, events *pg.Log, log *slog.Logger, registry prometheus.Registerer) (bus, *redisbus.Tickets, error) {
	if config.RedisURL.IsZero() {
		log.Info("no Redis URL is set: this replica must be the only one")
		return hub.NewLocal(), nil, nil
	}
	key := events.Secret
	if !config.RedisSecret.IsZero() {
		key = func(context.Context) ([]byte, error) { return []byte(config.RedisSecret.Reveal()), nil }
	}
	redis := redisbus.Config{URL: config.RedisURL.Reveal(), Prefix: config.RedisPrefix, Key: key, Log: log, Metrics: registry}
	carrier, err := redisbus.New(redis)
	if err != nil {
		return nil, nil, err
	}
	tickets, err := redisbus.NewTickets(redis)
	if err != nil {
		return nil, nil, err
	}
	return carrier, tickets, nil
}

// openLog opens the log. A Postgres that does not answer may come; one that answers, and has not what we need, will not
// get it by waiting.
func openLog(ctx context.Context, config Config, metrics *pg.Metrics, log *slog.Logger) (*pg.Log, error) {
	events, err := pg.OpenLog(ctx, config.DatabaseURL.Reveal(), metrics)
	if err != nil {
		return nil, err
	}
	switch err := events.Check(ctx); {
	case err == nil:
	case pg.Transient(err):
		log.WarnContext(ctx, "Postgres does not answer yet; new clients are asked to come back until it does", "err", err)
	default:
		events.Close()
		return nil, err
	}
	return events, nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// supervise keeps the back alive until the front has drained, so that clients still receive events while they leave.
// The first component to fail brings all of them down.
func supervise(ctx context.Context, front component, back ...component) error {
	ctx, stopFront := context.WithCancel(ctx)
	defer stopFront()
	backCtx, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	group, backCtx := errgroup.WithContext(backCtx)
	context.AfterFunc(backCtx, stopFront)
	for _, c := range back {
		group.Go(func() error { return c.Run(backCtx) })
	}
	group.Go(func() error {
		defer stopBack()
		return front.Run(ctx)
	})
	return group.Wait()
}
