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
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Redis is a private Redis server that keeps nothing on disk. As with Postgres, questions may be asked from anywhere,
// and the methods that change its state are for one goroutine at a time.
type Redis struct {
	bin     string
	folder  *folder
	user    *User
	options Options
	port    int

	mu      sync.Mutex
	process *Process // guarded by mu
}

// RedisBin returns the path of redis-server: REELAY_REDIS_BIN if it is set, else the one in PATH or in the usual places,
// else valkey-server, which is the same to us.
func RedisBin() (string, error) {
	if path := os.Getenv("REELAY_REDIS_BIN"); path != "" {
		return filepath.Abs(path) // it runs in another folder
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		for _, dir := range []string{"", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("redis-server is %w: %s; or set REELAY_REDIS_BIN to its path",
		ErrNotInstalled, installHint("redis-server", "redis"))
}

// StartRedis starts a server on a free port of 127.0.0.1 and on a unix socket. It returns when the server answers.
func StartRedis(ctx context.Context, options Options) (*Redis, error) {
	ctx, cancel := bounded(ctx, startTimeout)
	defer cancel()
	bin, err := RedisBin()
	if err != nil {
		return nil, err
	}
	owner, err := ServerUser()
	if err != nil {
		return nil, err
	}
	dir, err := newFolder(options.Dir, "redis", owner)
	if err != nil {
		return nil, err
	}
	r := &Redis{bin: bin, folder: dir, user: owner, options: options}
	err = onFreePort(ctx, func(port int) error {
		r.port = port
		return r.Start(ctx)
	})
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	return r, nil
}

// Start starts a server that was killed, on the same port and socket, and returns when it answers. It is empty.
func (r *Redis) Start(ctx context.Context) error {
	if process := r.current(); process != nil && process.running() {
		return errors.New("start Redis: it is running")
	}
	ctx, cancel := bounded(ctx, startTimeout)
	defer cancel()
	settings := map[string]string{
		"save": "", "appendonly": "no", "databases": "16", "tcp-backlog": "128", "loglevel": "notice",
		// No terminal of ours gets the logo.
		"always-show-logo": "no",
	}
	maps.Copy(settings, r.options.Settings)
	settings["bind"] = "127.0.0.1"
	settings["port"] = strconv.Itoa(r.port)
	settings["protected-mode"] = "yes"
	settings["unixsocket"] = r.socket()
	settings["unixsocketperm"] = "700"
	settings["daemonize"] = "no"
	settings["dir"] = r.folder.path
	var args []string
	for _, name := range sortedKeys(settings) {
		args = append(args, "--"+name, settings[name])
	}
	process, err := StartProcess(Command{
		Name: "redis", Path: r.bin, Args: args, Dir: r.folder.path, User: r.user, Log: r.options.Log,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.process = process
	r.mu.Unlock()
	if err := await(ctx, process, r.ready); err != nil {
		process.Kill()
		if strings.Contains(process.Output(), "in use") {
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return err
	}
	return nil
}

// ready says whether the server answers a PING on both of its addresses. The socket comes first: it is in our own
// folder, so no other server answers there while ours fails to get its port.
func (r *Redis) ready(ctx context.Context) bool {
	return answersPing(ctx, "unix", r.socket()) && answersPing(ctx, "tcp", loopback(r.port))
}

func answersPing(ctx context.Context, network, address string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	// -NOAUTH is an answer too: the options may ask for a password.
	return err == nil && (bytes.HasPrefix(answer[:n], []byte("+PONG")) || bytes.HasPrefix(answer[:n], []byte("-NOAUTH")))
}

// URL returns where to connect over TCP, as go-redis and others read it.
func (r *Redis) URL() string {
	u := url.URL{Scheme: "redis", Host: loopback(r.port), Path: "/0"}
	return u.String()
}

// SocketURL returns where to connect over the unix socket.
func (r *Redis) SocketURL() string {
	u := url.URL{Scheme: "unix", Path: r.socket()}
	return u.String()
}

// Addr returns the TCP address, host and port.
func (r *Redis) Addr() string { return loopback(r.port) }

// PID returns the server's process id, as it is or last was.
func (r *Redis) PID() int { return r.current().PID() }

// Done is closed when the server that now runs has ended. After a Start there is another channel.
func (r *Redis) Done() <-chan struct{} { return r.current().Done() }

// Err returns how the server ended, with the end of its log, if it ended badly.
func (r *Redis) Err() error { return r.current().Err() }

// Kill ends the server at once, as SIGKILL does. Start brings it back, empty.
func (r *Redis) Kill() { r.current().Kill() }

// Pause freezes the server: connections stay open and silent, new ones are accepted by the kernel and never answered.
func (r *Redis) Pause() error { return r.signal("pause", syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (r *Redis) Resume() error { return r.signal("resume", syscall.SIGCONT) }

func (r *Redis) signal(what string, sig syscall.Signal) error {
	if err := r.current().Signal(sig); err != nil {
		return fmt.Errorf("%s Redis: %w", what, err)
	}
	return nil
}

// Stop ends the server and removes its folder. When ctx ends first, or after ten seconds if ctx has no deadline, the
// server is killed, and an error says so. Stop may be called again, and after Kill.
func (r *Redis) Stop(ctx context.Context) error {
	return errors.Join(r.current().Stop(ctx), r.folder.remove())
}

func (r *Redis) current() *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

func (r *Redis) socket() string { return filepath.Join(r.folder.path, "redis.sock") }
