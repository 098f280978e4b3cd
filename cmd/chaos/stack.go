package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/deploy/local"
)

// stack is the whole system: real servers, and replicas as processes of their own.
type stack struct {
	postgres *local.Postgres
	redis    *local.Redis
	replicas []*replica
	db       *sql.DB
	jwt      auth.Config
	log      io.Writer

	watchers []*watcher // of the scenario that is played
	probes   int        // sent so far; see flows
}

// replica is one gateway, which can be killed and started again on the same ports.
type replica struct {
	number        int
	binary        string
	env           []string
	public, admin string
	process       *local.Process
	log           io.Writer
}

// startStack starts everything and waits until all replicas are ready. binary is the gateway's.
func startStack(ctx context.Context, binary string, replicas int, log io.Writer) (s *stack, err error) {
	s = &stack{jwt: auth.Config{Secret: auth.NewSecret("chaos-is-a-ladder-and-this-is-no-secret")}, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(context.WithoutCancel(ctx)))
		}
	}()
	settings := local.FastSettings()
	settings["max_connections"] = "100"
	if s.postgres, err = local.StartPostgres(ctx, local.Options{Settings: settings, Log: log}); err != nil {
		return s, err
	}
	if s.redis, err = local.StartRedis(ctx, local.Options{Log: log}); err != nil {
		return s, err
	}
	url := s.postgres.URL("postgres")
	if s.db, err = sql.Open("pgx", url); err != nil {
		return s, fmt.Errorf("open the database: %w", err)
	}
	migrate, err := local.StartProcess(local.Command{Name: "migrate", Path: binary, Args: []string{"migrate"}, Env: append(os.Environ(), "REELAY_DATABASE_URL="+url), Log: log})
	if err != nil {
		return s, err
	}
	<-migrate.Done()
	if err := migrate.Err(); err != nil {
		return s, err
	}
	if _, err := s.db.ExecContext(ctx, schema); err != nil {
		return s, fmt.Errorf("make the application's tables: %w", err)
	}
	for n := range replicas {
		r, err := newReplica(n+1, binary, s, url)
		if err != nil {
			return s, err
		}
		s.replicas = append(s.replicas, r)
		if err := r.start(); err != nil {
			return s, err
		}
	}
	for _, r := range s.replicas {
		if err := until(ctx, 20*time.Second, fmt.Sprintf("replica %d is ready", r.number), r.ready); err != nil {
			return s, err
		}
	}
	return s, until(ctx, 20*time.Second, "there is a leader", func() bool { return s.leader() != nil })
}

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
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	return errors.Join(errs...)
}

// leader returns the replica that leads, by its own word; nil if none says so.
func (s *stack) leader() *replica {
	for _, r := range s.replicas {
		if value, err := r.metric("reelay_leader"); err == nil && value == 1 {
			return r
		}
	}
	return nil
}

func (s *stack) addresses() []string {
	addresses := make([]string, len(s.replicas))
	for i, r := range s.replicas {
		addresses[i] = r.public
	}
	return addresses
}

func (s *stack) token(user string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s.jwt.Mint(user, time.Hour) }
}

func newReplica(number int, binary string, s *stack, databaseURL string) (*replica, error) {
	public, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return &replica{
		number: number, binary: binary, public: public, admin: admin, log: s.log,
		env: append(os.Environ(),
			"REELAY_DATABASE_URL="+databaseURL, "REELAY_REDIS_URL="+s.redis.URL(),
			"REELAY_LISTEN="+public, "REELAY_ADMIN_LISTEN="+admin, "REELAY_REPLICA=replica-"+strconv.Itoa(number),
			"REELAY_JWT_SECRET=chaos-is-a-ladder-and-this-is-no-secret", "REELAY_LOG_FORMAT=text"),
	}, nil
}

func (r *replica) start() (err error) {
	r.process, err = local.StartProcess(local.Command{
		Name: fmt.Sprintf("replica-%d", r.number), Path: r.binary, Args: []string{"serve"}, Env: r.env, Log: r.log,
	})
	return err
}

func (r *replica) ready() bool {
	response, err := get("http://" + r.admin + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// metric reads one number from /metrics.
func (r *replica) metric(name string) (float64, error) {
	response, err := get("http://" + r.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("replica %d has no metric %s", r.number, name)
}

func get(url string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body) // within the deadline, and before it is cancelled
	_ = response.Body.Close()
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	return response, err
}

// freeAddress finds a port that is free now. Nothing keeps it so until it is used; a replica that finds it taken says so.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// until waits for a condition, which it asks for every few milliseconds, for as long as limit.
func until(ctx context.Context, limit time.Duration, what string, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !condition() {
		if ctx.Err() != nil {
			return fmt.Errorf("waited %v in vain until %s", limit, what)
		}
		pause(ctx, 10*time.Millisecond)
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

// gatewayBinary is where make build puts the gateway, beside this program.
func gatewayBinary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "reelay")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("there is no gateway at %s: run make build, or name one by --reelay", path)
	}
	return path, nil
}

// freeze and thaw stop a replica where it stands, as a virtual machine that is moved does.
func (r *replica) freeze() error { return r.process.Signal(syscall.SIGSTOP) }
func (r *replica) thaw() error   { return r.process.Signal(syscall.SIGCONT) }
