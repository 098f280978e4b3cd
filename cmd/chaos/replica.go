package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reelay/reelay/deploy/local"
)

// replica is one gateway, which can be killed and started again at the same address.
type replica struct {
	name          string
	binary        string
	env           []string
	public, admin string // addresses
	postgres      *proxy
	redis         *proxy
	keys          *proxy     // the way to the issuer
	namespace     *namespace // nil where there are none
	process       *local.Process
	stack         *stack
}

func (s *stack) newReplica(ctx context.Context, n int) (r *replica, err error) {
	r = &replica{name: "replica-" + strconv.Itoa(n+1), binary: s.config.binary, stack: s}
	here, database := "127.0.0.1", "127.0.0.1"
	if s.namespaces != nil {
		r.namespace = s.namespaces[n]
		here, database = r.namespace.general.here, r.namespace.database.here
		r.public, r.admin = r.namespace.general.away+":8080", r.namespace.general.away+":9090"
	} else {
		if r.public, err = freeAddress(ctx, here); err != nil {
			return nil, err
		}
		if r.admin, err = freeAddress(ctx, here); err != nil {
			return nil, err
		}
	}
	if r.postgres, err = newProxy(ctx, database, s.postgresAddress()); err != nil {
		return nil, err
	}
	if r.redis, err = newProxy(ctx, here, s.redis.Addr()); err != nil {
		r.postgres.close()
		return nil, err
	}
	if r.keys, err = newProxy(ctx, here, s.issuer.address()); err != nil {
		r.postgres.close()
		r.redis.close()
		return nil, err
	}
	postgres, err := url.Parse(s.postgres.URL("postgres"))
	if err != nil {
		return nil, fmt.Errorf("read the URL of Postgres: %w", err)
	}
	postgres.Host = r.postgres.address()
	r.env = append(os.Environ(),
		"REELAY_DATABASE_URL="+postgres.String(), "REELAY_REDIS_URL=redis://"+r.redis.address(),
		"REELAY_LISTEN="+r.public, "REELAY_ADMIN_LISTEN="+r.admin, "REELAY_REPLICA="+r.name,
		"REELAY_JWKS_URL=http://"+r.keys.address()+keySetPath, "REELAY_JWKS_INSECURE=true", "NO_PROXY=*",
		// All clients here have one address.
		"REELAY_MAX_CONNECTIONS_PER_IP=1000000", "REELAY_CONNECT_RATE_PER_IP=1000000", "REELAY_LOG_FORMAT=text")
	return r, nil
}

func (r *replica) start() (err error) {
	command := local.Command{Name: r.name, Path: r.binary, Args: []string{"serve"}, Env: r.env, Log: r.stack.config.log}
	if r.namespace != nil {
		if command.Path, command.Args, err = r.namespace.wrap(command.Path, command.Args); err != nil {
			return err
		}
	}
	r.process, err = local.StartProcess(command)
	return err
}

// kill ends the replica as nothing else does: it has no chance to say a word. restart brings it back.
func (r *replica) kill() (moment, error) {
	if err := r.process.Signal(syscall.SIGKILL); err != nil {
		return moment{}, fmt.Errorf("kill %s: %w", r.name, err)
	}
	return now(), nil // it does not run any more, though the kernel may take a while to clear up
}

func (r *replica) restart() error {
	r.process.Kill() // waits for its end, however that came
	return r.start()
}

// freeze stops the replica where it stands, as a virtual machine that is moved does, and returns when it stands.
func (r *replica) freeze(ctx context.Context) error {
	if err := r.process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze %s: %w", r.name, err)
	}
	return until(ctx, 10*time.Second, r.name+" stands still", func() bool { return stopped(r.process.PID()) })
}

func (r *replica) thaw() error {
	if err := r.process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("thaw %s: %w", r.name, err)
	}
	return nil
}

// stopped says whether no thread of a process runs. Where there is no /proc to ask, it takes it for granted.
func stopped(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		if err != nil {
			continue // it has ended
		}
		// The state stands behind the name, which is in parentheses and may hold anything.
		if _, state, _ := cutLast(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// questions asks replicas how they are.
var questions = &http.Client{
	Timeout: 3 * time.Second,
	Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, MaxIdleConnsPerHost: 2, IdleConnTimeout: 10 * time.Second,
	},
}

func (r *replica) ask(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", r.name, err)
	}
	return questions.Do(request)
}

// ready returns what /readyz says. No answer is a no.
func (r *replica) ready(ctx context.Context) bool {
	response, err := r.ask(ctx, "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// samples are what /metrics says: the value of each series, by its name and labels as they stand there.
type samples map[string]float64

// sum adds up all series of one name, whatever their labels.
func (s samples) sum(name string) float64 {
	total := 0.0
	for series, value := range s {
		if rest, found := strings.CutPrefix(series, name); found && (rest == "" || rest[0] == '{') {
			total += value
		}
	}
	return total
}

func (r *replica) metrics(ctx context.Context) (samples, error) {
	response, err := r.ask(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", r.name, err)
	}
	defer response.Body.Close()
	all := make(samples)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, value, found := cutLast(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); found && err == nil && series[0] != '#' {
			all[series] = number
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", r.name, err)
	}
	return all, nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i <= 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// metricsOf adds up the metrics of several replicas. One that does not answer is left out.
func metricsOf(ctx context.Context, replicas []*replica) samples {
	total := make(samples)
	for _, r := range replicas {
		m, err := r.metrics(ctx)
		if err != nil {
			continue
		}
		for series, value := range m {
			total[series] += value
		}
	}
	return total
}
