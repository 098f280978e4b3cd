package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// PostgresUser is the superuser of a Postgres started here. It has no password. It is not called reelay: with the usual
// search_path, "$user", public, the tables of a user of that name would land in the schema reelay.
const PostgresUser = "postgres"

// Postgres is a private Postgres server. URL, PID and the other questions may be asked at any time from anywhere; the
// methods that change its state (Start, Restart, Kill, Pause, Resume, Stop) are for one goroutine at a time.
type Postgres struct {
	bin     string
	folder  *folder
	user    *User
	options Options
	port    int

	mu      sync.Mutex
	process *Process // guarded by mu
	frozen  family   // guarded by mu; nil unless paused
}

// StartPostgres makes a new cluster with a superuser PostgresUser and starts a server on it. It returns when the server
// accepts connections, usually within a second.
func StartPostgres(ctx context.Context, options Options) (*Postgres, error) {
	ctx, cancel := bounded(ctx, startTimeout)
	defer cancel()
	bin, err := PostgresBin(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := ServerUser()
	if err != nil {
		return nil, err
	}
	dir, err := newFolder(options.Dir, "postgres", owner)
	if err != nil {
		return nil, err
	}
	p := &Postgres{bin: bin, folder: dir, user: owner, options: options}
	err = p.initialize(ctx)
	if err == nil {
		err = onFreePort(ctx, func(port int) error {
			p.port = port
			return p.Start(ctx)
		})
	}
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	return p, nil
}

// initialize makes the cluster.
func (p *Postgres) initialize(ctx context.Context) error {
	locale := "C.UTF-8"
	if runtime.GOOS != "linux" {
		locale = "C" // macOS has had C.UTF-8 only since its version 14
	}
	return run(ctx, Command{
		Name: "initdb",
		Path: filepath.Join(p.bin, "initdb"),
		Args: []string{
			"--pgdata=" + p.data(), "--username=" + PostgresUser, "--auth=trust",
			"--encoding=UTF8", "--locale=" + locale, "--no-sync",
		},
		Env:  postgresEnv(),
		Dir:  p.folder.path,
		User: p.user,
	})
}

// Start starts a server that was killed, on the same data and the same port, and returns when it accepts connections.
func (p *Postgres) Start(ctx context.Context) error {
	if process := p.current(); process != nil && process.running() {
		return errors.New("start Postgres: it is running")
	}
	ctx, cancel := bounded(ctx, startTimeout)
	defer cancel()
	args := []string{"-D", p.data()}
	settings := map[string]string{"logging_collector": "off", "log_destination": "stderr"}
	maps.Copy(settings, p.options.Settings)
	for _, name := range sortedKeys(settings) {
		args = append(args, "-c", name+"="+settings[name])
	}
	args = append(args,
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port="+strconv.Itoa(p.port),
		"-c", "unix_socket_directories="+p.folder.path,
	)
	process, err := StartProcess(Command{
		Name: "postgres",
		Path: filepath.Join(p.bin, "postgres"),
		Args: args,
		Env:  postgresEnv(),
		Dir:  p.folder.path,
		User: p.user,
		Log:  p.options.Log,
		// Fast shutdown. SIGTERM would wait for every client to leave.
		StopSignal: syscall.SIGINT,
		// Immediate shutdown: the server kills its backends, which are in sessions of their own, and gives its shared
		// memory back. SIGKILL would leave a backend running for as long as its query takes.
		DeathSignal: syscall.SIGQUIT,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.process = process
	p.mu.Unlock()
	if err := await(ctx, process, func(ctx context.Context) bool { return p.ready(ctx, process.PID()) }); err != nil {
		p.Kill()
		if strings.Contains(process.Output(), "Address already in use") {
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return err
	}
	return nil
}

// ready says whether the server with this pid accepts connections. It asks as pg_ctl does: line 8 of postmaster.pid,
// below the pid in line 1 (a killed server leaves a file that says ready).
func (p *Postgres) ready(ctx context.Context, pid int) bool {
	content, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := bytes.Split(content, []byte{'\n'})
	if len(lines) < 8 || string(lines[0]) != strconv.Itoa(pid) || string(bytes.TrimSpace(lines[7])) != "ready" {
		return false
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", loopback(p.port))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// URL returns where to connect to a database over TCP.
func (p *Postgres) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(PostgresUser), Host: loopback(p.port), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketURL returns where to connect to a database over the unix socket. When root started the server, only root and
// the server's user can.
func (p *Postgres) SocketURL(database string) string {
	query := url.Values{"host": {p.folder.path}, "port": {strconv.Itoa(p.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(PostgresUser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// Port returns the server's TCP port and the number in its socket's name. It stays the same for life.
func (p *Postgres) Port() int { return p.port }

// Bin returns the path of one of Postgres's programs, such as pg_basebackup, beside the server's. It need not exist.
func (p *Postgres) Bin(name string) string { return filepath.Join(p.bin, name) }

// Folder returns the server's folder: data is in there, and the socket.
func (p *Postgres) Folder() string { return p.folder.path }

// PID returns the process id of the server's first process, the postmaster, as it is or last was.
func (p *Postgres) PID() int { return p.current().PID() }

// Done is closed when the server that now runs has ended. After a Start there is another channel.
func (p *Postgres) Done() <-chan struct{} { return p.current().Done() }

// Err returns how the server ended, with the end of its log, if it ended badly.
func (p *Postgres) Err() error { return p.current().Err() }

// Restart stops the server and starts it again on the same port. Mode is "fast" (clients are cut off, everything is
// written) or "immediate" (as if it had crashed: the next start recovers).
func (p *Postgres) Restart(ctx context.Context, mode string) error {
	sig, known := map[string]syscall.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !known {
		return fmt.Errorf("restart Postgres: mode %q is neither fast nor immediate", mode)
	}
	ctx, cancel := bounded(ctx, startTimeout)
	defer cancel()
	p.thaw().resume()
	process := p.current()
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		return fmt.Errorf("restart Postgres: wait for its end: %w", ctx.Err())
	}
	return p.Start(ctx)
}

// Kill ends the server as a crash of the machine would, seen from outside: every process of it gets SIGKILL. What was
// committed is on disk. It returns when all are gone; Start brings the server back.
func (p *Postgres) Kill() {
	process := p.current()
	if !process.running() {
		return
	}
	// Backends are in groups of their own and would outlive the postmaster until they look up from their work. Without
	// a table of processes, at least the postmaster ends.
	members, err := p.stopFamily()
	if err != nil {
		members = nil
	}
	members.kill(process)
	p.thaw()
}

// Stop shuts the server down, cutting its clients off, and removes its folder. When ctx ends first, or after ten seconds
// if ctx has no deadline, the server is killed, and an error says so. Stop may be called again, and after Kill.
func (p *Postgres) Stop(ctx context.Context) error {
	ctx, cancel := bounded(ctx, stopTimeout)
	defer cancel()
	p.thaw().resume()
	process := p.current()
	var err error
	_ = process.Signal(syscall.SIGINT) // it may have ended by itself
	select {
	case <-process.Done():
	case <-ctx.Done():
		p.Kill()
		err = fmt.Errorf("stop Postgres: killed, since it had not ended in time: %w", ctx.Err())
	}
	return errors.Join(err, p.folder.remove())
}

func (p *Postgres) current() *Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

func (p *Postgres) data() string { return filepath.Join(p.folder.path, "data") }

// postgresEnv is this process's environment without what would change a Postgres program's behaviour, and with the
// messages in English, which Start reads.
func postgresEnv() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "LC_") && !strings.HasPrefix(entry, "LANG") {
			env = append(env, entry)
		}
	}
	return append(env, "LC_ALL=C")
}
