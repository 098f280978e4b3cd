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
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // plain database/sql, as an application

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/deploy/local"
)

const secret = "a-benchmark-has-no-secrets-but-needs-32-bytes"

// users and perUser are how many users there are, and videos of each.
const (
	users   = 1000
	perUser = 10
)

// stack is what a measurement runs on: servers with the settings they come with, and gateways as processes.
type stack struct {
	postgres *local.Postgres
	redis    *local.Redis
	db       *sql.DB
	gateways []*gateway
	settings []string // of the gateways, as NAME=value, beside those they need
}

type gateway struct {
	process       *local.Process
	public, admin string
}

const videosTable = `CREATE TABLE videos (id text PRIMARY KEY, user_id text NOT NULL, processing_status text NOT NULL DEFAULT 'pending',
	progress int NOT NULL DEFAULT 0, updated_at timestamptz NOT NULL DEFAULT now());
	CREATE INDEX ON videos (user_id)`

// start starts Postgres, Redis and gateways, the first of which leads. There are 1,000 users with ten videos each.
func start(ctx context.Context, o options, gateways int) (*stack, error) {
	s, err := startFor(ctx, o, users, perUser)
	if err != nil {
		return nil, err
	}
	if err := s.replicas(ctx, o, gateways); err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	return s, nil
}

// startFor starts Postgres and Redis alone, for n users with so many videos each.
func startFor(ctx context.Context, o options, n, each int) (s *stack, err error) {
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
	if _, err := s.db.ExecContext(ctx, videosTable); err != nil {
		return s, fmt.Errorf("make the table: %w", err)
	}
	return s, s.populate(ctx, n, each)
}

// populate fills the table: video n belongs to user n / each.
func (s *stack) populate(ctx context.Context, n, each int) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO videos (id, user_id) SELECT 'v' || i, 'user-' || i / $2::int FROM generate_series(0, $1::int * $2 - 1) i", n, each)
	if err != nil {
		return fmt.Errorf("fill the table: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, "VACUUM ANALYZE videos"); err != nil {
		return fmt.Errorf("analyze the table: %w", err)
	}
	return nil
}

// replicas starts gateways until there are so many. The first to be started leads.
func (s *stack) replicas(ctx context.Context, o options, n int) error {
	for len(s.gateways) < n {
		if err := s.serve(ctx, o); err != nil {
			return err
		}
		if len(s.gateways) > 1 {
			continue
		}
		leads := func() bool {
			leader, err := s.gateways[0].metric(ctx, "reelay_leader")
			return err == nil && leader == 1
		}
		if err := until(ctx, "the first gateway leads", leads); err != nil {
			return err
		}
	}
	return nil
}

// retire stops all gateways.
func (s *stack) retire(ctx context.Context) error {
	var errs []error
	for _, g := range s.gateways {
		errs = append(errs, g.process.Stop(ctx))
	}
	s.gateways = nil
	return errors.Join(errs...)
}

// watch attaches Reelay to the column that the ledger's numbers are written to.
func (s *stack) watch(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, "SELECT reelay.watch('videos', columns => '{progress}')")
	return err
}

// addresses returns where clients find gateways.
func addresses(gateways []*gateway) []string {
	var all []string
	for _, g := range gateways {
		all = append(all, g.public)
	}
	return all
}

func (s *stack) url() string { return s.postgres.URL("postgres") }

func (s *stack) environ() []string {
	environ := append(os.Environ(), s.settings...)
	return append(environ, "REELAY_DATABASE_URL="+s.url(), "REELAY_REDIS_URL="+s.redis.URL(), "REELAY_JWT_SECRET="+secret, "REELAY_LOG_LEVEL=warn")
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
	errs := []error{s.retire(ctx)}
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

// metric reads one number of a gateway's: the sum of all series of that name.
func (g *gateway) metric(ctx context.Context, name string) (value float64, err error) {
	body, err := fetch(ctx, "http://"+g.admin+"/metrics")
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		number, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read the metric %s: %w", name, err)
		}
		value += number
		found = true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return value, nil
}

// metrics adds up a metric of several gateways.
func metrics(ctx context.Context, gateways []*gateway, name string) (total float64, err error) {
	for _, g := range gateways {
		value, err := g.metric(ctx, name)
		if err != nil {
			return 0, err
		}
		total += value
	}
	return total, nil
}

// until waits for a condition, for a minute at the longest.
func until(ctx context.Context, what string, met func() bool) error {
	for deadline := time.Now().Add(time.Minute); !met(); pause(ctx, 10*time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait until %s: a minute was not enough", what)
		}
	}
	return nil
}

// fetch gets what a server answers, within ten seconds.
func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return fetchLong(ctx, url)
}

// fetchLong is for what takes as long as ctx allows.
func fetchLong(ctx context.Context, url string) (string, error) {
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
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", url, response.Status, body)
	}
	return string(body), err
}

// tokenLife is longer than any run: a minute before its end a client is told, and none of ours expects that.
const tokenLife = 30 * 24 * time.Hour

func token(user string) (string, error) {
	return auth.Config{Secrets: []auth.Secret{auth.NewSecret(secret)}}.Mint(user, tokenLife)
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
