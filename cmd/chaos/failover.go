package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/reelay/reelay/deploy/local"
)

// failedOver lets a standby fall behind, ends the primary, and makes the standby the new one. What was committed in
// between is gone, though clients have seen it: they have to be told, and to begin anew.
func failedOver(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	next, err := e.newStandby(ctx)
	if err != nil {
		return err
	}
	// What sessions received before is compared now, since it will be forgotten with the reset.
	v, err := e.compare(ctx)
	if err != nil {
		return err
	}
	e.verdict.add(v)
	if err := next.catchUp(ctx, e.stack); err != nil {
		return err
	}
	next.link.cut()
	from := time.Now()
	number := e.prober.since(from) + int64(e.behind)
	err = until(ctx, time.Minute, "clients are ahead of the standby", func() bool {
		return all(e.probes, func(w *watcher) bool { _, came := w.probeSince(number); return came })
	})
	if err != nil {
		return err
	}
	before := make(map[*watcher]int)
	for _, w := range e.watchers {
		before[w] = w.resetsSoFar()
	}
	if err := e.stopPostgres(ctx, syscall.SIGQUIT); err != nil {
		return err
	}
	lost, err := next.promote(ctx, number)
	if err != nil {
		return err
	}
	if lost == 0 {
		return errors.New("the standby lacked nothing: the fault was not played")
	}
	e.moveTo(next)
	if err := e.recovers(ctx, now(), e.replicas, nil); err != nil {
		return err
	}
	err = until(ctx, recoverLimit, "every session is reset", func() bool {
		return all(e.watchers, func(w *watcher) bool { return w.resetsSoFar() > before[w] })
	})
	if err != nil {
		e.breaks("sessions that saw what is gone were not reset: %v", err)
	}
	e.notef("%d probes gone", lost)
	return nil
}

// moveTo makes a standby that was promoted the server that all connect to.
func (s *stack) moveTo(next *standby) {
	s.mu.Lock()
	s.primary = next
	s.mu.Unlock()
	for _, r := range s.replicas {
		r.postgres.retarget(s.postgresAddress())
	}
}

// standby is a Postgres that follows another one, through a link of its own that can be cut, until it is promoted.
// Its folder is in that of the first Postgres, and goes with it.
type standby struct {
	bin    func(program string) string
	folder string
	port   int
	user   *local.User
	args   []string
	log    func(name string) local.Command
	link   *proxy

	process *local.Process
}

// newStandby copies the primary and starts the copy.
func (s *stack) newStandby(ctx context.Context) (_ *standby, err error) {
	user, err := local.ServerUser()
	if err != nil {
		return nil, err
	}
	link, err := newProxy(ctx, "127.0.0.1", s.postgresAddress())
	if err != nil {
		return nil, err
	}
	n := &standby{
		bin: s.database().Bin, folder: filepath.Join(s.postgres.Folder(), fmt.Sprintf("standby-%d", len(s.standbys)+1)), user: user, link: link,
		log: func(name string) local.Command {
			return local.Command{Name: name, User: user, Env: plainEnv(), Dir: s.postgres.Folder(), Log: s.config.log}
		},
	}
	s.standbys = append(s.standbys, n)
	address, err := freeAddress(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("start a standby: %w", err)
	}
	if n.port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("start a standby: %w", err)
	}
	n.args = []string{"-D", n.folder, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + port, "-c", "unix_socket_directories=" + n.folder}
	for name, value := range postgresSettings() {
		n.args = append(n.args, "-c", name+"="+value)
	}
	if err := n.copy(ctx); err != nil {
		return nil, err
	}
	return n, n.Start(ctx)
}

// copy fills the folder, and leaves in it where to follow the primary.
func (n *standby) copy(ctx context.Context) error {
	source := url.URL{Scheme: "postgres", User: url.User(local.PostgresUser), Host: n.link.address()}
	command := n.log("pg_basebackup")
	command.Path = n.Bin("pg_basebackup")
	command.Args = []string{"-D", n.folder, "-d", source.String(), "-X", "stream", "-c", "fast", "-R", "--no-sync"}
	process, err := local.StartProcess(command)
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

// Start implements server.
func (n *standby) Start(ctx context.Context) (err error) {
	command := n.log("promoted")
	command.Path, command.Args = n.Bin("postgres"), n.args
	command.StopSignal, command.DeathSignal = syscall.SIGINT, syscall.SIGQUIT
	if n.process, err = local.StartProcess(command); err != nil {
		return err
	}
	return until(ctx, time.Minute, "a standby answers", func() bool {
		conn, err := pgconn.Connect(ctx, n.URL("postgres"))
		if err != nil {
			return false
		}
		_ = conn.Close(ctx)
		return true
	})
}

// URL, Port, PID, Done and Bin implement server.
func (n *standby) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(local.PostgresUser), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Port implements server.
func (n *standby) Port() int { return n.port }

// PID implements server.
func (n *standby) PID() int { return n.process.PID() }

// Done implements server.
func (n *standby) Done() <-chan struct{} { return n.process.Done() }

// Bin implements server.
func (n *standby) Bin(program string) string { return n.bin(program) }

func (n *standby) stop(ctx context.Context) error {
	n.link.close()
	if n.process == nil {
		return nil
	}
	return n.process.Stop(ctx)
}

// catchUp waits until the standby has all that the primary has now.
func (n *standby) catchUp(ctx context.Context, s *stack) error {
	var position string
	if err := s.db.QueryRowContext(ctx, "SELECT pg_current_wal_flush_lsn()").Scan(&position); err != nil {
		return fmt.Errorf("look how far the primary is: %w", err)
	}
	return until(ctx, time.Minute, "the standby has caught up", func() bool {
		caught, err := n.ask(ctx, "SELECT pg_last_wal_replay_lsn() >= '"+position+"'")
		return err == nil && caught == "t"
	})
}

// promote makes the standby a primary, and returns how many of the probes up to a number it lacks.
func (n *standby) promote(ctx context.Context, number int64) (lacks int64, err error) {
	if done, err := n.ask(ctx, "SELECT pg_promote(true, 60)"); err != nil || done != "t" {
		return 0, fmt.Errorf("promote the standby: %q: %w", done, err)
	}
	highest, err := n.ask(ctx, "SELECT coalesce(max(version), 0) FROM audit WHERE kind = '"+probeType+"'")
	if err != nil {
		return 0, err
	}
	has, err := strconv.ParseInt(highest, 10, 64)
	return number - has, err
}

// ask returns the one value that a query returns.
func (n *standby) ask(ctx context.Context, query string) (string, error) {
	conn, err := pgconn.Connect(ctx, n.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("ask the standby: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is left to be saved
	results, err := conn.Exec(ctx, query).ReadAll()
	if err != nil {
		return "", fmt.Errorf("ask the standby: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", fmt.Errorf("ask the standby: %s has no one answer", query)
	}
	return string(results[0].Rows[0][0]), nil
}

// plainEnv is the environment without what changes how a program of Postgres behaves.
func plainEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
}
