package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/reelay/reelay/deploy/local"
)

// stackConfig says what to start.
type stackConfig struct {
	binary   string // the gateway's
	replicas int
	// width is how many positions a partition of the log holds; 0 leaves it as it is.
	width int
	log   io.Writer
}

// server is a Postgres that can be stopped and started: the first one, or a standby that was promoted.
type server interface {
	URL(database string) string
	Port() int
	PID() int
	Done() <-chan struct{}
	Start(ctx context.Context) error
	Bin(program string) string
}

// stack is the whole system: real servers, and replicas as processes of their own. Each replica reaches Postgres and
// Redis through proxies of its own, so that links can be cut one at a time. The application reaches Postgres directly.
type stack struct {
	config     stackConfig
	postgres   *local.Postgres // the first one; its folder holds those after it
	standbys   []*standby
	redis      *local.Redis
	namespaces []*namespace
	noNetns    error // why there are none
	replicas   []*replica
	db         *sql.DB
	issuer     *issuer
	raced      bool // the gateway has the race detector in it

	mu      sync.Mutex
	primary server // guarded by mu
}

// startStack starts everything and waits until all replicas are ready.
func startStack(ctx context.Context, config stackConfig) (s *stack, err error) {
	s = &stack{config: config}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(context.WithoutCancel(ctx)))
		}
	}()
	if s.issuer, err = newIssuer(ctx); err != nil {
		return s, err
	}
	if s.raced, err = hasRaceDetector(config.binary); err != nil {
		return s, err
	}
	if s.postgres, err = local.StartPostgres(ctx, local.Options{Settings: postgresSettings(), Log: config.log}); err != nil {
		return s, err
	}
	s.primary = s.postgres
	if s.redis, err = local.StartRedis(ctx, local.Options{Log: config.log}); err != nil {
		return s, err
	}
	if s.db, err = s.open(20); err != nil {
		return s, err
	}
	if err := s.migrate(ctx); err != nil {
		return s, err
	}
	if s.namespaces, err = newNamespaces(ctx, config.replicas); errors.Is(err, errNoNamespaces) {
		s.noNetns = err
	} else if err != nil {
		return s, err
	}
	for n := range config.replicas {
		r, err := s.newReplica(ctx, n)
		if err != nil {
			return s, err
		}
		s.replicas = append(s.replicas, r)
		if err := r.start(); err != nil {
			return s, err
		}
	}
	for _, r := range s.replicas {
		if err := until(ctx, 30*time.Second, r.name+" is ready", func() bool { return r.ready(ctx) }); err != nil {
			return s, err
		}
	}
	_, err = s.leader(ctx)
	return s, err
}

func postgresSettings() map[string]string {
	settings := local.FastSettings()
	settings["max_connections"] = strconv.Itoa(maxConnections)
	return settings
}

// maxConnections is how many sessions Postgres accepts.
const maxConnections = 100

// migrate makes Reelay's schema and the application's.
func (s *stack) migrate(ctx context.Context) error {
	command := local.Command{
		Name: "migrate", Path: s.config.binary, Args: []string{"migrate"}, Log: s.config.log,
		Env: append(os.Environ(), "REELAY_DATABASE_URL="+s.postgres.URL("postgres")),
	}
	migrate, err := local.StartProcess(command)
	if err != nil {
		return err
	}
	select {
	case <-migrate.Done():
	case <-ctx.Done():
		migrate.Kill()
		return ctx.Err()
	}
	if err := migrate.Err(); err != nil {
		return err
	}
	if s.config.width > 0 {
		if _, err := s.db.ExecContext(ctx, fmt.Sprintf(narrowPartitions, s.config.width)); err != nil {
			return fmt.Errorf("make the log's partitions small: %w", err)
		}
	}
	if _, err := s.db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("make the application's tables: %w", err)
	}
	return nil
}

// stop ends everything, however little of it was started. It may be called again.
func (s *stack) stop(ctx context.Context) error {
	var errs []error
	for _, r := range s.replicas {
		if r.process != nil {
			errs = append(errs, r.process.Stop(ctx))
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Stop(ctx))
	}
	for _, standby := range s.standbys {
		errs = append(errs, standby.stop(ctx))
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	for _, r := range s.replicas {
		r.postgres.close()
		r.redis.close()
		r.keys.close()
	}
	if s.issuer != nil {
		s.issuer.close()
	}
	removeNamespaces(ctx, s.namespaces)
	s.namespaces = nil
	return errors.Join(errs...)
}

// open returns the application's way to Postgres, wherever that is: so many connections at the most, all of which
// stay open.
func (s *stack) open(connections int) (*sql.DB, error) {
	config, err := pgx.ParseConfig(s.postgres.URL("postgres"))
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.postgresAddress())
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func (s *stack) postgresAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.database().Port()))
}

// database returns the Postgres that takes writes.
func (s *stack) database() server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.primary
}

// leader waits until there is exactly one replica that leads, by its own word.
func (s *stack) leader(ctx context.Context) (*replica, error) {
	var leaders []*replica
	err := until(ctx, time.Minute, "one replica leads", func() bool {
		leaders = nil
		for _, r := range s.replicas {
			if m, err := r.metrics(ctx); err == nil && m.sum("reelay_leader") == 1 {
				leaders = append(leaders, r)
			}
		}
		return len(leaders) == 1
	})
	if err != nil {
		return nil, err
	}
	return leaders[0], nil
}

// others returns all replicas but those named.
func (s *stack) others(but ...*replica) []*replica {
	var others []*replica
next:
	for _, r := range s.replicas {
		for _, b := range but {
			if r == b {
				continue next
			}
		}
		others = append(others, r)
	}
	return others
}

func (s *stack) addresses() []string {
	addresses := make([]string, len(s.replicas))
	for i, r := range s.replicas {
		addresses[i] = r.public
	}
	return addresses
}

func (s *stack) token(user string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s.issuer.mint(user), nil }
}

// logf writes a line of this program's own among those of the others.
func (s *stack) logf(format string, args ...any) {
	line := fmt.Sprintf("chaos | time=%s ", time.Now().UTC().Format(time.RFC3339Nano)) + fmt.Sprintf(format, args...)
	_, _ = io.WriteString(s.config.log, line+"\n") // a log that cannot be written is no reason to fail
}

// freeAddress finds a port of ip that is free now. Nothing keeps it so until it is used, but it is from below what is
// given to outgoing connections: a replica that was killed can come back on it.
func freeAddress(ctx context.Context, ip string) (string, error) {
	var last error
	for range 50 {
		address := net.JoinHostPort(ip, strconv.Itoa(15000+rand.IntN(15000)))
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, listener.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find a free port: %w", last)
}

// until waits for a condition, which it asks for every few milliseconds, for as long as limit.
func until(ctx context.Context, limit time.Duration, what string, condition func() bool) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !condition() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bounded.Err() != nil {
			return fmt.Errorf("waited %v in vain until %s", limit, what)
		}
		pause(bounded, 10*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// isOutage tells the errors of a server that goes or comes from those of the application's SQL.
func isOutage(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return true // the connection's, not the server's
	}
	switch answer.Code {
	case "57P01", "57P02", "57P03", "53300", "25006": // shutting down, crash, starting up, too many connections, read-only
		return true
	}
	return false
}
