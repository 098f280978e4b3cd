package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // plain database/sql, as an application

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/deploy/local"
)

const secret = "a-benchmark-has-no-secrets-but-needs-32-bytes"

// stack is what a measurement runs on: servers with the settings they come with, and gateways as processes.
type stack struct {
	postgres *local.Postgres
	redis    *local.Redis
	db       *sql.DB
	gateways []*gateway
}

type gateway struct {
	process       *local.Process
	public, admin string
}

const videos = `CREATE TABLE videos (id text PRIMARY KEY, user_id text NOT NULL, processing_status text NOT NULL DEFAULT 'pending',
	progress int NOT NULL DEFAULT 0, updated_at timestamptz NOT NULL DEFAULT now());
	CREATE INDEX ON videos (user_id);
	INSERT INTO videos (id, user_id) SELECT 'v' || i, 'user-' || i / 10 FROM generate_series(0, 9999) i`

func start(ctx context.Context, o options, gateways int) (s *stack, err error) {
	s = new(stack)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(ctx))
		}
	}()
	if s.postgres, err = local.StartPostgres(ctx, local.Options{Settings: map[string]string{"max_connections": "200"}}); err != nil {
		return s, err
	}
	if s.redis, err = local.StartRedis(ctx, local.Options{}); err != nil {
		return s, err
	}
	if s.db, err = sql.Open("pgx", s.url()); err != nil {
		return s, err
	}
	s.db.SetMaxOpenConns(100)
	if err := s.reelay(o, "migrate"); err != nil {
		return s, err
	}
	if _, err := s.db.ExecContext(ctx, videos); err != nil {
		return s, fmt.Errorf("make the table: %w", err)
	}
	for range gateways {
		if err := s.serve(ctx, o); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *stack) url() string { return s.postgres.URL("postgres") }

func (s *stack) environ() []string {
	return append(os.Environ(), "REELAY_DATABASE_URL="+s.url(), "REELAY_REDIS_URL="+s.redis.URL(), "REELAY_JWT_SECRET="+secret, "REELAY_LOG_LEVEL=warn")
}

func (s *stack) reelay(o options, args ...string) error {
	process, err := local.StartProcess(local.Command{Name: args[0], Path: o.reelay, Args: args, Env: s.environ()})
	if err != nil {
		return err
	}
	<-process.Done()
	return process.Err()
}

func (s *stack) serve(ctx context.Context, o options) error {
	g := &gateway{public: freeAddress(), admin: freeAddress()}
	process, err := local.StartProcess(local.Command{
		Name: "serve", Path: o.reelay, Args: []string{"serve", "--listen", g.public, "--admin-listen", g.admin}, Env: s.environ(),
	})
	if err != nil {
		return err
	}
	g.process = process
	s.gateways = append(s.gateways, g)
	for deadline := time.Now().Add(20 * time.Second); ; pause(ctx, 20*time.Millisecond) {
		if _, err := g.metric(ctx, "reelay_leader"); err == nil {
			return nil
		} else if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("a gateway does not start: %w", err), process.Err())
		}
	}
}

func (s *stack) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var errs []error
	for _, g := range s.gateways {
		errs = append(errs, g.process.Stop(ctx))
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Stop(ctx))
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	return errors.Join(errs...)
}

// metric reads one number of a gateway's.
func (g *gateway) metric(ctx context.Context, name string) (value float64, err error) {
	body, err := fetch(ctx, "http://"+g.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if n, _ := fmt.Sscanf(line, name+" %g", &value); n == 1 {
			return value, nil
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := new(http.Client).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func token(user string) (string, error) {
	return auth.Config{Secrets: []auth.Secret{auth.NewSecret(secret)}}.Mint(user, time.Hour)
}

func freeAddress() string {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0" // and the gateway says what is wrong
	}
	defer listener.Close()
	return listener.Addr().String()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// quantile returns the value below which a share q of the values lies. It sorts them.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}
