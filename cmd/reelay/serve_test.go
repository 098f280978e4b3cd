package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub/redisbus/redistest"
	"github.com/reelay/reelay/pg/pgtest"
)

// served is a real gateway: a process of its own, with a real Postgres and a real Redis.
type served struct {
	*testing.T

	public, admin string // http://host:port
	logged        func() string
}

// backends are what gateways share.
type backends struct {
	database string // URL
	redis    string // URL
	conn     *pgx.Conn
}

// newBackends starts a Postgres that watches a table videos, and a Redis with a password.
func newBackends(t *testing.T, redisPassword string) backends {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers")
	}
	server := pgtest.NewServer(t, nil)
	b := backends{database: server.New(t)}
	redis, err := url.Parse(redistest.NewWith(t, map[string]string{"requirepass": redisPassword}).URL())
	if err != nil {
		t.Fatal(err)
	}
	redis.User = url.UserPassword("", redisPassword)
	b.redis = redis.String()
	if b.conn, err = pgx.Connect(t.Context(), b.database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.conn.Close(context.Background()) })
	b.do(t, "CREATE TABLE videos (id text PRIMARY KEY, user_id text, processing_status text)")
	b.do(t, "CREATE INDEX ON videos (user_id)")
	b.do(t, "SELECT reelay.watch('videos')")
	return b
}

func (b backends) do(t *testing.T, statement string, arguments ...any) {
	t.Helper()
	if _, err := b.conn.Exec(t.Context(), statement, arguments...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// serveWith starts a gateway and waits until it is ready.
func serveWith(t *testing.T, b backends, settings ...string) served {
	t.Helper()
	cmd := play(t, "reelay", append([]string{
		"REELAY_DATABASE_URL=" + b.database, "REELAY_REDIS_URL=" + b.redis, "REELAY_JWT_SECRET=" + testSecret,
		"REELAY_LISTEN=127.0.0.1:0", "REELAY_ADMIN_LISTEN=127.0.0.1:0", "REELAY_LOG_LEVEL=debug",
	}, settings...), "serve")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // when the test ends
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var logged bytes.Buffer
	serving := make(chan [2]string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			mu.Lock()
			logged.WriteString(lines.Text() + "\n")
			mu.Unlock()
			var line struct{ Msg, Listen, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				serving <- [2]string{line.Listen, line.Admin}
			}
		}
	}()
	s := served{T: t, logged: func() string {
		mu.Lock()
		defer mu.Unlock()
		return logged.String()
	}}
	t.Cleanup(func() {
		<-read
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the gateway ended with %v:\n%s", err, s.logged())
		}
	})
	select {
	case addresses := <-serving:
		s.public, s.admin = "http://"+addresses[0], "http://"+addresses[1]
	case <-read:
		t.Fatalf("the gateway did not start:\n%s", s.logged())
	}
	for deadline := time.Now().Add(time.Minute); s.get(s.admin+"/readyz").status != http.StatusOK; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the gateway is not ready:\n%s", s.logged())
		}
	}
	return s
}

// reply is an HTTP answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

// get asks with header lines as they are.
func (s served) get(address string, lines ...string) reply {
	s.Helper()
	return s.ask(http.MethodGet, address, lines...)
}

func (s served) ask(method, address string, lines ...string) reply {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), method, address, nil)
	if err != nil {
		s.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request) // no redirect is followed
	if err != nil {
		s.Fatalf("%s: %v\n%s", address, err, s.logged())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatalf("%s: %v", address, err)
	}
	return reply{response.StatusCode, response.Header, string(body)}
}

// sign makes a token as the issuer would.
func sign(t *testing.T, user string, ttl time.Duration) string {
	t.Helper()
	token, err := auth.Config{Secrets: []auth.Secret{auth.NewSecret(testSecret)}}.Mint(user, ttl)
	if err != nil {
		t.Fatalf("mint a token for %q: %v", user, err)
	}
	return token
}

// page is what a client that asks now and then gets.
type page struct {
	Cursor string
	Events []struct{ Type, Subject string }
}

func (s served) page(user, query string) page {
	s.Helper()
	answer := s.get(s.public+"/events?"+query, "Authorization: Bearer "+sign(s.T, user, time.Hour))
	if answer.status != http.StatusOK {
		s.Fatalf("user %q got %d: %s", user, answer.status, answer.body)
	}
	var p page
	if err := json.Unmarshal([]byte(answer.body), &p); err != nil {
		s.Fatalf("user %q got %s: %v", user, answer.body, err)
	}
	return p
}

// TestServe_UserIDsAreOpaque has users whose ids mean something to Redis, to SQL, to a log or to a program that prints.
// Each gets what is its own and nothing else, and so does u1, whom some of them look like.
func TestServe_UserIDsAreOpaque(t *testing.T) {
	t.Parallel()
	users := []string{
		"u1", "*", "u*", "?1", "a:b", "[x]", "u[0-9]", `u1\`, "{7}", "reelay:{7}:u1", "reelay", "u1 ", " u1", "U1", "u1%00", "%s%d%n", "$1",
		"'; DROP TABLE videos; --", `"u1"`, `u1","epoch":99`, "../u1", "u1\u202e", "ü1", "u\u03081", "<script>alert(1)</script>", strings.Repeat("u", 256),
	}
	b := newBackends(t, "a password of Redis")
	replicas := []served{serveWith(t, b), serveWith(t, b)}
	at := func(i int) served { return replicas[i%len(replicas)] }
	cursors := make([]string, len(users))
	for i, user := range users {
		b.do(t, "INSERT INTO videos VALUES ($1, $2, 'processing')", fmt.Sprint("video-", i), user)
		cursors[i] = at(i).page(user, "").Cursor
	}
	// No token can name this one: it gets no event, and the writer no error.
	b.do(t, "INSERT INTO videos VALUES ('smuggled', E'u1\\r\\nPUBLISH x', 'processing')")
	for i := range slices.Backward(users) { // u1 last, so that what was meant for others would have come before
		b.do(t, "UPDATE videos SET processing_status = 'ready' WHERE id = $1", fmt.Sprint("video-", i))
	}
	for i, user := range users {
		p := at(i).page(user, "wait=20&after="+cursors[i])
		for len(p.Events) == 1 && p.Events[0].Type == "video.created" { // it had no position yet when the page was read
			p = at(i).page(user, "wait=20&after="+p.Cursor)
		}
		if len(p.Events) != 1 || p.Events[0].Type != "video.updated" || p.Events[0].Subject != fmt.Sprint("video-", i) {
			t.Errorf("user %q got %+v, want video.updated of video-%d and nothing else", user, p.Events, i)
		}
	}
	for _, r := range replicas {
		for line := range strings.Lines(r.logged()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("a line of the log is no JSON: %s", line)
			}
		}
		metrics := r.get(r.admin + "/metrics").body
		for _, user := range users {
			if len(user) > 3 && user != "reelay" && strings.Contains(metrics, user) {
				t.Errorf("user %q stands in the metrics", user)
			}
		}
	}
}
