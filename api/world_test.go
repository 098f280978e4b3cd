package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/reelay/reelay/api"
	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// world is a Server that runs, a real hub behind it, and a log in memory behind that. When its test ends, it drains, and
// nothing that was secret may have come into its log or metrics.
type world struct {
	*testing.T

	log       *fakeLog
	bus       *hub.Local
	auth      auth.Config
	server    api.Config
	revocable *revocable
	revoke    func(user, tokenID string) // tells the server, after revocable
	dialer    func(ctx context.Context, network, address string) (net.Conn, error)
	registry  *prometheus.Registry
	logged    *journal
	hubIsDead bool // the hub does not run
	// mayErr is set by tests that provoke log lines of level ERROR.
	mayErr bool

	drain func() // ends the server's context
	ended chan error

	mu      sync.Mutex
	secrets []string // guarded by mu
}

// journal is what was logged.
type journal struct {
	mu    sync.Mutex
	bytes bytes.Buffer // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes.String()
}

// inWorld runs a test in a bubble of its own time, with connections in memory. Those of prepare change what the server
// is made of.
func inWorld(t *testing.T, test func(*world), prepare ...func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		memory := newListener()
		w.server.Listener, w.dialer = memory, memory.dial
		for _, p := range prepare {
			p(w)
		}
		w.start()
		synctest.Wait()
		test(w)
	})
}

// onTCP runs a test with real sockets, in real time. Those of prepare change what the server is made of.
func onTCP(t *testing.T, test func(*world), prepare ...func(*world)) {
	t.Helper()
	w := newWorld(t)
	var config net.ListenConfig
	tcp, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	w.server.Listener = tcp
	w.dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", tcp.Addr().String())
	}
	for _, p := range prepare {
		p(w)
	}
	w.start()
	for w.metric("reelay_hub_bus_up") != "1" {
		<-time.After(time.Millisecond)
	}
	test(w)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		T: t, log: newFakeLog(), bus: hub.NewLocal(), registry: prometheus.NewRegistry(), logged: new(journal),
		auth:  auth.Config{Secrets: []auth.Secret{auth.NewSecret("a secret of thirty-two bytes, or more")}},
		ended: make(chan error, 1),
	}
	verifier, err := auth.NewVerifier(w.auth)
	if err != nil {
		t.Fatalf("make a verifier: %v", err)
	}
	logger := slog.New(slog.NewJSONHandler(w.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	limits := api.DefaultLimits()
	limits.ConnectionsPerUser = 1 << 20 // and so many at once: in a bubble no time passes while a client asks again and again
	w.revocable = &revocable{Verifier: verifier, users: make(map[string]bool), tokens: make(map[string]bool)}
	w.server = api.Config{
		Verifier: w.revocable, Limits: limits, Log: logger, Metrics: api.NewMetrics(w.registry),
		Hub: hub.New(w.bus, w.log, logger, hub.NewMetrics(w.registry)),
	}
	return w
}

// start runs the hub and the server, and has them end with the test.
func (w *world) start() {
	hubCtx, stopHub := context.WithCancel(context.Background())
	hubEnded := make(chan error, 1)
	if w.hubIsDead {
		stopHub()
	}
	go func() { hubEnded <- w.server.Hub.Run(hubCtx) }()
	ctx, drain := context.WithCancel(context.Background())
	w.drain = drain
	server := api.NewServer(w.server)
	w.revoke = server.Revoke
	go func() { w.ended <- server.Run(ctx) }()
	w.Cleanup(func() {
		w.stop()
		stopHub()
		if err := <-hubEnded; err != nil {
			w.Errorf("the hub ended with %v", err)
		}
		w.checkSecrets()
	})
}

// stop drains the server and waits for it to end. It may be called again.
func (w *world) stop() {
	w.Helper()
	w.drain()
	err := <-w.ended
	w.ended <- err
	if err != nil {
		w.Errorf("the server ended with %v, want nil", err)
	}
}

// checkSecrets looks for tokens, which nothing may tell, and for errors, which nobody expected.
func (w *world) checkSecrets() {
	w.Helper()
	logged, metrics := w.logged.String(), w.metrics()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.secrets {
		// A part of it is too much: the payload alone says who it is, the signature alone opens the door.
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) < 8 {
				continue
			}
			if strings.Contains(logged, part) {
				w.Errorf("the log contains the token part %q:\n%s", part, logged)
			}
			if strings.Contains(metrics, part) {
				w.Errorf("the metrics contain the token part %q:\n%s", part, metrics)
			}
		}
	}
	if !w.mayErr && strings.Contains(logged, `"level":"ERROR"`) {
		w.Errorf("errors were logged:\n%s", logged)
	}
}

// metrics returns all metrics as /metrics does.
func (w *world) metrics() string {
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", nil)
	promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{}).ServeHTTP(recorder, request)
	return recorder.Body.String()
}

// metric returns a metric by its name and labels as they stand in /metrics; "0" if what it counts has not happened. One
// that nobody registered, or with other labels, fails the test: it would stay 0 whatever happens.
func (w *world) metric(series string) string {
	w.Helper()
	if name, labels := named(series); !w.registered(name, labels) {
		w.Fatalf("no metric %s is registered with the labels {%s}", name, labels)
	}
	for line := range strings.Lines(w.metrics()) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return "0"
}

// label is one label of a series in /metrics. No value that a test asks for holds a quotation mark.
var label = regexp.MustCompile(`(\w+)="[^"]*"`)

// named returns the name of a series, and those of its labels with commas between them.
func named(series string) (name, labels string) {
	name, rest, _ := strings.Cut(series, "{")
	var names []string
	for _, match := range label.FindAllStringSubmatch(rest, -1) {
		names = append(names, match[1])
	}
	return name, strings.Join(names, ",")
}

// registered reports whether there is a metric with these labels, though it may have no series yet.
func (w *world) registered(name, labels string) bool {
	descriptions := make(chan *prometheus.Desc)
	go func() { // ends when all have been read below
		defer close(descriptions)
		w.registry.Describe(descriptions)
	}()
	found := false
	for d := range descriptions {
		// A description tells what it describes as text alone.
		text := d.String()
		found = found || strings.HasPrefix(text, `Desc{fqName: "`+name+`",`) && strings.HasSuffix(text, `variableLabels: {`+labels+`}}`)
	}
	return found
}

// secret notes what must not be told, and returns it.
func (w *world) secret(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, text)
	return text
}

// token returns a token of a user that is good for an hour.
func (w *world) token(user string) string {
	w.Helper()
	return w.tokenFor(user, time.Hour)
}

func (w *world) tokenFor(user string, ttl time.Duration) string {
	w.Helper()
	token, err := w.auth.Mint(user, ttl)
	if err != nil {
		w.Fatalf("mint a token for %q: %v", user, err)
	}
	return w.secret(token)
}

// publish commits events and publishes them.
func (w *world) publish(events ...*hub.Event) {
	w.Helper()
	if err := w.bus.Publish(context.Background(), w.log.append(events...)); err != nil {
		w.Fatalf("publish: %v", err)
	}
}

// revocable is a verifier that refuses what was revoked.
type revocable struct {
	*auth.Verifier

	mu     sync.Mutex
	users  map[string]bool // guarded by mu
	tokens map[string]bool // guarded by mu
	// beforeCheck is called first by Check, unless nil.
	beforeCheck func()
}

func (r *revocable) Verify(token string) (auth.Principal, error) {
	p, err := r.Verifier.Verify(token)
	if err != nil {
		return auth.Principal{}, err
	}
	return p, r.refuses(p)
}

func (r *revocable) Check(p auth.Principal) error {
	if r.beforeCheck != nil {
		r.beforeCheck()
	}
	return r.refuses(p)
}

func (r *revocable) refuses(p auth.Principal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users[p.User] || r.tokens[p.TokenID] {
		return auth.ErrRevokedToken
	}
	return nil
}

// panicking is a verifier with a bug.
type panicking struct{}

func (panicking) Verify(string) (auth.Principal, error) { panic("a bug") }
func (panicking) Check(auth.Principal) error            { panic("a bug") }
func (panicking) Leeway() time.Duration                 { return 0 }

// answer is an HTTP answer, read.
type answer struct {
	*http.Response

	body string
}

// send sends bytes on a connection of its own and reads one answer. What the server does not take is not sent.
func (w *world) send(text string) (a answer) {
	w.Helper()
	w.exchange(text, func(conn net.Conn) { a = w.read(conn) })
	return a
}

// exchange sends bytes on a connection of its own, which ends when read returns.
func (w *world) exchange(text string, read func(net.Conn)) {
	w.Helper()
	conn, err := w.dialer(context.Background(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	defer conn.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(conn, text)
	}()
	read(conn)
	conn.Close()
	<-written
}

// read reads one answer.
func (w *world) read(from io.Reader) answer {
	w.Helper()
	a, err := w.readSome(from)
	if err != nil {
		w.Fatalf("read the body of an answer: %v", err)
	}
	return a
}

// readSome reads one answer, and as much of its body as comes without an error.
func (w *world) readSome(from io.Reader) (answer, error) {
	w.Helper()
	response, err := http.ReadResponse(newReader(from), nil)
	if err != nil {
		w.Fatalf("read an answer: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return answer{Response: response}, nil
	}
	body, err := io.ReadAll(response.Body)
	return answer{response, string(body)}, err
}

// pass lets time pass, and everybody do what is to be done by then.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
