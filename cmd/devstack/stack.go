package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/deploy/local"
)

const (
	// stopTimeout is how long one thing gets to end before it is killed.
	stopTimeout = 10 * time.Second
	// tokenLife is long enough for a day of trying things in a terminal. The page fetches new ones by itself.
	tokenLife = 24 * time.Hour
)

// users are the two people of the demo.
var users = []string{"alice", "bob"}

// schema is the example application's own table. It knows nothing of Reelay.
const schema = `
CREATE TABLE videos (
    id                  TEXT PRIMARY KEY,
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL,
    raw_file_path       TEXT NOT NULL,
    processed_file_path TEXT,
    processing_status   TEXT NOT NULL DEFAULT 'pending',
    user_id             TEXT NOT NULL
);
CREATE INDEX videos_user_id ON videos (user_id);`

// stack is everything that runs. It is started once and stopped once, by one goroutine.
type stack struct {
	opts     options
	progress *progress
	// wantedPort is the port of the balancer that was asked for; opts.port is the one it has.
	wantedPort int

	folder   *folder
	secret   auth.Config
	tokens   map[string]string // by user, for the terminal
	reelay   string            // the path of bin/reelay
	postgres *local.Postgres
	redis    *local.Redis
	db       *sql.DB
	replicas []*replica
	app      *app
	balancer *balancer

	// life ends when stop begins: from then on nobody's end is unexpected.
	life context.Context
	end  context.CancelFunc
	// minders are the goroutines that live until life ends.
	minders sync.WaitGroup
	// failed receives the first unexpected end of something that the stack cannot do without.
	failed chan error
	// stops ends what was started, in the order of starting. stop runs it backwards.
	stops []stopper
}

// stopper ends one thing.
type stopper struct {
	name string
	stop func(ctx context.Context) error
}

func newStack(opts options, progress *progress) *stack {
	s := &stack{opts: opts, progress: progress, wantedPort: opts.port, failed: make(chan error, 1)}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// start brings everything up, in an order in which each finds what it needs. After an error, stop takes down what did start.
func (s *stack) start(ctx context.Context) error {
	var err error
	if s.reelay, err = findReelay(); err != nil {
		return err
	}
	secret := rand.Text() + rand.Text()
	s.secret = auth.Config{Secrets: []auth.Secret{auth.NewSecret(secret)}}
	if s.folder, err = newFolder(); err != nil {
		return err
	}
	s.onStop("folder", func(context.Context) error { return s.folder.remove() })
	if err := s.mintTokens(); err != nil {
		return err
	}

	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"Postgres", s.startPostgres},
		{"Redis", s.startRedis},
		{"reelay migrate", s.migrate},
		{"table videos, watched", s.createTable},
		{"example app", s.startApp},
		{fmt.Sprintf("replicas of Reelay (%d)", s.opts.replicas), func(ctx context.Context) error { return s.startReplicas(ctx, secret) }},
		{"load balancer", s.startBalancer},
	} {
		if err := s.progress.step(step.name, func() error { return step.do(ctx) }); err != nil {
			return fmt.Errorf("start %s: %w", step.name, err)
		}
	}
	if s.opts.transcoder {
		return s.startTranscoder()
	}
	return nil
}

// mintTokens makes the tokens for the terminal, and puts them into files too: they are long lines to copy.
func (s *stack) mintTokens() error {
	s.tokens = make(map[string]string)
	for _, user := range users {
		token, err := s.secret.Mint(user, tokenLife)
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.folder.file(tokenFile(user)), []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the token of %s: %w", user, err)
		}
		s.tokens[user] = token
	}
	return nil
}

// wait returns nil when ctx ends, or what ended before it and should not have.
func (s *stack) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// stop ends everything that was started, the last first, each within stopTimeout.
func (s *stack) stop() error {
	if len(s.stops) == 0 {
		return nil
	}
	return s.progress.step("stopping", func() error {
		s.end()
		s.minders.Wait()
		var errs []error
		for _, thing := range slices.Backward(s.stops) {
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			if err := thing.stop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", thing.name, err))
			}
			cancel()
		}
		return errors.Join(errs...)
	})
}

func (s *stack) onStop(name string, stop func(context.Context) error) {
	s.stops = append(s.stops, stopper{name, stop})
}

// mind brings the stack down when something ends before its life does.
func (s *stack) mind(name string, done <-chan struct{}, why func() error) {
	s.minders.Go(func() {
		select {
		case <-s.life.Done():
		case <-done:
			s.fail(fmt.Errorf("%s ended unexpectedly: %w", name, describeEnd(why())))
		}
	})
}

// fail keeps the first failure: what follows is mostly its consequence.
func (s *stack) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// describeEnd makes an error of an end without one.
func describeEnd(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// openLog makes a log file that is closed when everything is stopped.
func (s *stack) openLog(name string) (io.Writer, error) {
	file, err := s.folder.create(name + ".log")
	if err != nil {
		return nil, err
	}
	s.onStop(name+"'s log", func(context.Context) error { return file.Close() })
	return file, nil
}

func (s *stack) startPostgres(ctx context.Context) error {
	log, err := s.openLog("postgres")
	if err != nil {
		return err
	}
	// fsync stays on: with it, the latencies on the page are those of a real server.
	s.postgres, err = local.StartPostgres(ctx, local.Options{Log: log, Dir: s.folder.path})
	if err != nil {
		return err
	}
	s.onStop("Postgres", s.postgres.Stop)
	s.mind("Postgres", s.postgres.Done(), s.postgres.Err)
	s.db, err = sql.Open("pgx", s.databaseURL())
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	s.onStop("connections", func(context.Context) error { return s.db.Close() })
	return nil
}

// databaseURL is where the application and Reelay find their common database.
func (s *stack) databaseURL() string { return s.postgres.URL("postgres") }

func (s *stack) startRedis(ctx context.Context) error {
	log, err := s.openLog("redis")
	if err != nil {
		return err
	}
	s.redis, err = local.StartRedis(ctx, local.Options{Log: log, Dir: s.folder.path})
	if err != nil {
		return err
	}
	s.onStop("Redis", s.redis.Stop)
	s.mind("Redis", s.redis.Done(), s.redis.Err)
	return nil
}

// migrate runs bin/reelay as an operator would.
func (s *stack) migrate(ctx context.Context) error {
	process, err := local.StartProcess(local.Command{
		Path: s.reelay, Args: []string{"migrate", "--database-url", s.databaseURL()}, Env: reelayEnv(nil),
	})
	if err != nil {
		return err
	}
	select {
	case <-process.Done():
		return process.Err()
	case <-ctx.Done():
		process.Kill()
		return ctx.Err()
	}
}

func (s *stack) createTable(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("create the table: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, `SELECT reelay.watch('videos')`); err != nil {
		return fmt.Errorf("watch the table: %w", err)
	}
	for _, user := range users {
		for range 2 {
			if _, err := upload(ctx, s.db, user); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stack) startApp(context.Context) error {
	mint := func(user string) (string, error) { return s.secret.Mint(user, tokenLife) }
	var err error
	if s.app, err = startApp(s.db, mint); err != nil {
		return err
	}
	s.onStop("example app", s.app.stop)
	s.mind("the example app", s.app.done, s.app.err)
	return nil
}

func (s *stack) startTranscoder() error {
	log, err := s.openLog("transcoder")
	if err != nil {
		return err
	}
	s.minders.Go(func() { newTranscoder(s.db, log).run(s.life) })
	return nil
}

// findReelay returns the path of the gateway's binary, which lies beside this one.
func findReelay() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("look for bin/reelay: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "reelay")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing: build it with make build, or run all of this with make run", path)
	}
	return path, nil
}
