package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reelay/reelay/deploy"
	"github.com/reelay/reelay/deploy/local"
)

// patience is how long a test waits for what must happen. HAProxy needs some seconds to call a silent server down.
const patience = 30 * time.Second

// key and accept are one handshake of a WebSocket. HAProxy looks at both.
const (
	key    = "AAAAAAAAAAAAAAAAAAAAAA=="
	accept = "ICX+Yqv66kxgM0FcWaLWlFLwTAI="
)

// replica pretends to be a gateway: it names itself, and gives back each line on a connection that was upgraded.
type replica struct {
	name   string
	public *httptest.Server
	admin  *httptest.Server
	// status is what /readyz answers; 0 means nothing at all.
	status atomic.Int32
}

func newReplica(t *testing.T, name string) *replica {
	t.Helper()
	r := &replica{name: name}
	r.status.Store(http.StatusOK)
	ended := make(chan struct{})
	r.admin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		status := int(r.status.Load())
		if request.URL.Path != "/readyz" || status == 0 {
			<-ended
			return
		}
		w.WriteHeader(status)
	}))
	r.public = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(func() {
		close(ended)
		r.public.CloseClientConnections()
		r.public.Close()
		r.admin.Close()
	})
	return r
}

func (r *replica) serve(w http.ResponseWriter, request *http.Request) {
	if request.Header.Get("Upgrade") == "" {
		_, _ = fmt.Fprintf(w, "%s %s", r.name, request.Header.Values("X-Forwarded-For"))
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n")
	_ = rw.Flush()
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = rw.WriteString(r.name + " " + line)
		_ = rw.Flush()
	}
}

// proxy is an HAProxy with our configuration.
type proxy struct {
	address string
	log     *safeBuffer
}

// haproxy returns the program's path. A machine without it fails the test; with -short it is not asked for.
func haproxy(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs HAProxy; -short is without servers")
	}
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("haproxy is not installed: make deps-test installs it")
	return ""
}

// write puts the configuration into a file, and returns its path.
func write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, deploy.HAProxy, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startProxy(t *testing.T, replicas ...*replica) *proxy {
	t.Helper()
	path := haproxy(t)
	// The port is free a moment ago. Should another take it, HAProxy says so and the test fails.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: listener.Addr().String(), log: new(safeBuffer)}
	_ = listener.Close()
	env := []string{"REELAY_BIND=" + p.address}
	for i, r := range replicas {
		_, port, _ := net.SplitHostPort(r.admin.Listener.Addr().String())
		env = append(env, fmt.Sprintf("REELAY_REPLICA_%d=%s", i+1, r.public.Listener.Addr()), fmt.Sprintf("REELAY_REPLICA_%d_ADMIN=%s", i+1, port))
	}
	process, err := local.StartProcess(local.Command{Name: "haproxy", Path: path, Args: []string{"-db", "-f", write(t)}, Env: env, Log: p.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	await(t, "HAProxy to listen", func() bool {
		select {
		case <-process.Done():
			t.Fatalf("HAProxy ended: %v", process.Err())
		default:
		}
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

// get asks once, as a client that claims to be somebody else.
func (p *proxy) get(t *testing.T) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.address+"/events?ticket=top-secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// socket is an upgraded connection through the proxy.
type socket struct {
	net.Conn

	reader *bufio.Reader
}

func (p *proxy) dial(t *testing.T) *socket {
	t.Helper()
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	_, _ = io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	s := &socket{conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(s.reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v, want 101", response, err)
	}
	return s
}

// echo says hello and returns the name of the replica that answers.
func (s *socket) echo() (string, error) {
	if _, err := io.WriteString(s, "hello\n"); err != nil {
		return "", err
	}
	line, err := s.reader.ReadString('\n')
	name, _, _ := strings.Cut(line, " ")
	return name, err
}

func TestHAProxy_AcceptsTheConfigurationForEverySurrounding(t *testing.T) {
	t.Parallel()
	path, config := haproxy(t), write(t)
	one := []string{"REELAY_BIND=:8080", "REELAY_REPLICA_1=127.0.0.1:1", "REELAY_REPLICA_1_ADMIN=2"}
	three := append(one[:3:3], "REELAY_REPLICA_2=127.0.0.1:3", "REELAY_REPLICA_2_ADMIN=4", "REELAY_REPLICA_3=127.0.0.1:5", "REELAY_REPLICA_3_ADMIN=6")
	for name, env := range map[string][]string{
		"one replica": one, "three": three,
		"an app":     append(three[:7:7], "REELAY_APP=127.0.0.1:7"),
		"a resolver": append(three[:7:7], "REELAY_RESOLVER=127.0.0.11:53"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := exec.CommandContext(t.Context(), path, "-c", "-f", config)
			command.Env = env
			if out, err := command.CombinedOutput(); err != nil || bytes.Contains(out, []byte("WARNING")) {
				t.Errorf("haproxy -c: %v\n%s", err, out)
			}
		})
	}
}

func TestHAProxy_LeavesSocketsToAReplicaThatIsNotReadyAndTakesThemFromASilentOne(t *testing.T) {
	t.Parallel()
	one, two := newReplica(t, "one"), newReplica(t, "two")
	p := startProxy(t, one, two)

	sockets := map[string]*socket{}
	for range 2 { // by the number of connections: one each
		s := p.dial(t)
		name, err := s.echo()
		if err != nil {
			t.Fatal(err)
		}
		sockets[name] = s
	}
	if len(sockets) != 2 {
		t.Fatalf("two sockets on %d replicas, want 2", len(sockets))
	}

	one.status.Store(http.StatusServiceUnavailable)
	await(t, "the first replica to get no new clients", func() bool { return strings.Contains(p.log.String(), "reelay-1 is stopping") })
	for range 4 {
		if _, body := p.get(t); body != "two [127.0.0.1]" {
			t.Errorf("answer = %q, want one of the second replica, for 127.0.0.1", body)
		}
	}

	two.status.Store(http.StatusServiceUnavailable)
	await(t, "both to get no new clients", func() bool { return strings.Contains(p.log.String(), "reelay-2 is stopping") })
	response, body := p.get(t)
	var problem struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
		Hint   string `json:"hint"`
	}
	if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != http.StatusServiceUnavailable || problem.Code != "unavailable" || problem.Hint == "" {
		t.Errorf("problem = %+v, %v: %s", problem, err, body)
	}
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Content-Type") != "application/problem+json" || response.Header.Get("Retry-After") == "" {
		t.Errorf("answer = %d %v, want 503, application/problem+json and Retry-After", response.StatusCode, response.Header)
	}
	for name, s := range sockets {
		if got, err := s.echo(); got != name || err != nil {
			t.Errorf("socket on %s: %q, %v, want it open", name, got, err)
		}
	}

	two.status.Store(http.StatusOK)
	one.status.Store(0)
	await(t, "the first replica to be down", func() bool { return strings.Contains(p.log.String(), "reelay-1 is DOWN") })
	if got, err := sockets["one"].reader.ReadString('\n'); err == nil {
		t.Errorf("read %q from a replica that is down, want the end", got)
	}
	if got, err := sockets["two"].echo(); got != "two" || err != nil {
		t.Errorf("socket on two: %q, %v, want it open", got, err)
	}
	if log := p.log.String(); strings.Contains(log, "top-secret") || !strings.Contains(log, "GET /events 200") {
		t.Errorf("the log should have the paths and no query:\n%s", log)
	}
}

// await waits for a condition.
func await(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s", patience, what)
		case <-ticker.C:
		}
	}
}

// safeBuffer is a bytes.Buffer that may be read while it is written to.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
