package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reelay/reelay/deploy/local"
)

const (
	// maxReplicas is how many deploy/haproxy.cfg knows of.
	maxReplicas = 3
	// demoCookie may hold a token. The demo page does not use it; the test of hostile pages does.
	demoCookie = "reelay_demo"
	// readyTimeout is how long a replica gets until it says that it can serve.
	readyTimeout = 30 * time.Second
	// restartDelay is long enough to see on the page what happens without the replica.
	restartDelay = 2 * time.Second
	// startAttempts is how often replicas are started on other ports when theirs were taken at the last moment.
	startAttempts = 3
	pollInterval  = 25 * time.Millisecond
	// probeTimeout is longer than a replica takes to say that Postgres does not answer.
	probeTimeout = 3 * time.Second
)

// replica is one gateway. One that dies is started again, on the same ports: people are meant to kill it.
type replica struct {
	name   string
	path   string
	env    []string
	log    io.Writer
	public int
	admin  int

	mu      sync.Mutex
	process *local.Process // guarded by mu
}

// startReplicas starts all of them at once and returns when all are ready.
func (s *stack) startReplicas(ctx context.Context, secret string) error {
	logs := make([]io.Writer, s.opts.replicas)
	for i := range logs {
		var err error
		if logs[i], err = s.openLog(replicaName(i)); err != nil {
			return err
		}
	}
	var err error
	for range startAttempts {
		if err = s.tryReplicas(ctx, secret, logs); err == nil || !portTaken(err) {
			break
		}
		s.stopReplicas(ctx)
	}
	s.onStop("replicas", func(ctx context.Context) error { s.stopReplicas(ctx); return nil })
	if err != nil {
		return err
	}
	for _, r := range s.replicas {
		s.minders.Go(func() { r.mind(s.life, s.progress) })
	}
	return nil
}

func (s *stack) tryReplicas(ctx context.Context, secret string, logs []io.Writer) error {
	// The origins of the page hold the balancer's port, which is therefore chosen here.
	port, err := nextFreePort(ctx, s.opts.port)
	if err != nil {
		return err
	}
	ports, err := freePorts(ctx, 2*s.opts.replicas)
	if err != nil {
		return err
	}
	s.opts.port = port
	s.replicas = nil
	for i, log := range logs {
		r := &replica{name: replicaName(i), path: s.reelay, log: log, public: ports[2*i], admin: ports[2*i+1]}
		r.env = reelayEnv(map[string]string{
			"REELAY_REPLICA":         r.name,
			"REELAY_LISTEN":          loopback(r.public),
			"REELAY_ADMIN_LISTEN":    loopback(r.admin),
			"REELAY_DATABASE_URL":    s.databaseURL(),
			"REELAY_REDIS_URL":       s.redis.URL(),
			"REELAY_JWT_SECRET":      secret,
			"REELAY_ALLOWED_ORIGINS": fmt.Sprintf("http://127.0.0.1:%d,http://localhost:%d", port, port),
			"REELAY_COOKIE":          demoCookie,
			"REELAY_LOG_FORMAT":      "text",
		})
		if err := r.launch(); err != nil {
			return err
		}
		s.replicas = append(s.replicas, r)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, r := range s.replicas {
		if err := r.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stopReplicas ends all of them at the same time: each drains, which takes a moment.
func (s *stack) stopReplicas(ctx context.Context) {
	var all sync.WaitGroup
	for _, r := range s.replicas {
		// An error says that it was killed in the end, or had died before. Gone it is.
		all.Go(func() { _ = r.current().Stop(ctx) })
	}
	all.Wait()
}

// launch starts the process without waiting for it to be ready.
func (r *replica) launch() error {
	process, err := local.StartProcess(local.Command{Path: r.path, Args: []string{"serve"}, Env: r.env, Log: r.log})
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process = process
	return nil
}

func (r *replica) current() *local.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// await returns when the replica says that it can serve, or with the reason why it never will.
func (r *replica) await(ctx context.Context) error {
	process := r.current()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !answersOK(ctx, r.readyURL()) {
		select {
		case <-process.Done():
			return fmt.Errorf("%s: %w", r.name, describeEnd(process.Err()))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; it said last:\n%s", r.name, ctx.Err(), process.Output())
		case <-ticker.C:
		}
	}
	return nil
}

func (r *replica) readyURL() string { return "http://" + loopback(r.admin) + "/readyz" }

// mind starts the replica again whenever it ends, until ctx does.
func (r *replica) mind(ctx context.Context, progress *progress) {
	for {
		process := r.current()
		select {
		case <-ctx.Done():
			return
		case <-process.Done():
		}
		how, _, _ := strings.Cut(describeEnd(process.Err()).Error(), "\n")
		progress.sayf("%s (pid %d) ended: %s. Starting it again in %v.",
			r.name, process.PID(), strings.TrimPrefix(how, r.path+": "), restartDelay)
		if err := r.restart(ctx); err != nil && ctx.Err() == nil {
			progress.sayf("%s does not start: %v", r.name, err)
		} else if err == nil {
			progress.sayf("%s is back, with pid %d.", r.name, r.current().PID())
		}
	}
}

func (r *replica) restart(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(restartDelay):
	}
	if err := r.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return r.await(ctx)
}

func replicaName(i int) string { return "reelay-" + strconv.Itoa(i+1) }

// reelayEnv is this process's environment with these settings of Reelay and none that happen to be set outside.
func reelayEnv(settings map[string]string) []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "REELAY_") {
			env = append(env, entry)
		}
	}
	for name, value := range settings {
		env = append(env, name+"="+value)
	}
	return env
}

// portTaken says whether an error quotes a server that found its port in use.
func portTaken(err error) bool { return strings.Contains(err.Error(), "address already in use") }

// prober makes a connection for each question: one that is kept open says little of a server that has frozen since.
var prober = &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// answersOK says whether a GET is answered with 200.
func answersOK(ctx context.Context, url string) bool { return probe(ctx, url) == ready }

// probe takes any answer but 200 for notReady.
func probe(ctx context.Context, url string) health {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return silent
	}
	response, err := prober.Do(request)
	if err != nil {
		return silent
	}
	_ = response.Body.Close() // only the status matters
	if response.StatusCode != http.StatusOK {
		return notReady
	}
	return ready
}
