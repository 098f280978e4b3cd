package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen. It is only used up by a test that fails.
const patience = 10 * time.Second

// echo answers a GET with its name and switches an upgrade to a protocol that gives every line back.
func echo(t *testing.T, name string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = fmt.Fprintf(w, "%s host=%s for=%s proto=%s", name, r.Host, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = rw.WriteString(name + " " + line)
			_ = rw.Flush()
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func address(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func front(t *testing.T, upstreams ...*upstream) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(newPool(upstreams))
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", "203.0.113.9") // a client that claims to be another
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// socket opens an upgraded connection through the front.
func socket(t *testing.T, s *httptest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status = %d, want 101", response.StatusCode)
	}
	return conn, reader
}

func exchange(t *testing.T, conn net.Conn, reader *bufio.Reader, text string) string {
	t.Helper()
	if _, err := io.WriteString(conn, text+"\n"); err != nil {
		t.Fatal(err)
	}
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return strings.TrimSpace(line)
}

func TestPool_TakesTurnsAndTellsWhoAsked(t *testing.T) {
	t.Parallel()
	s := front(t, newUpstream(address(echo(t, "a")), ""), newUpstream(address(echo(t, "b")), ""))
	seen := map[string]int{}
	for range 4 {
		status, body := get(t, s.URL)
		want := " host=" + address(s) + " for=127.0.0.1 proto=http"
		if status != http.StatusOK || body[1:] != want {
			t.Fatalf("got %d %q, want 200 and %q after the name", status, body, want)
		}
		seen[body[:1]]++
	}
	if seen["a"] != 2 || seen["b"] != 2 {
		t.Errorf("requests per upstream = %v, want two each", seen)
	}
}

func TestPool_CarriesAnUpgradedConnectionBothWays(t *testing.T) {
	t.Parallel()
	s := front(t, newUpstream(address(echo(t, "a")), ""))
	conn, reader := socket(t, s)
	for _, text := range []string{"one", "two"} {
		if got, want := exchange(t, conn, reader, text), "a "+text; got != want {
			t.Errorf("answer = %q, want %q", got, want)
		}
	}
}

func TestPool_PassesOverAnUpstreamThatRefuses(t *testing.T) {
	t.Parallel()
	gone := echo(t, "gone")
	gone.Close()
	s := front(t, newUpstream(address(gone), ""), newUpstream(address(echo(t, "b")), ""))
	for range 4 {
		if status, body := get(t, s.URL); status != http.StatusOK || body[:1] != "b" {
			t.Fatalf("got %d %q, want the answer of b", status, body)
		}
	}
}

func TestPool_SaysWhenNobodyIsThere(t *testing.T) {
	t.Parallel()
	gone := echo(t, "gone")
	gone.Close()
	s := front(t, newUpstream(address(gone), ""))
	if status, _ := get(t, s.URL); status != http.StatusServiceUnavailable {
		t.Errorf("status = %d, want 503", status)
	}
}

func TestUpstream_CutsOffItsSessionsWhenItFallsSilent(t *testing.T) {
	t.Parallel()
	frozen := newUpstream(address(echo(t, "frozen")), "")
	s := front(t, frozen)
	conn, reader := socket(t, s)
	exchange(t, conn, reader, "hello")

	for i := range checkFailures {
		if life, _ := frozen.state(); life.Err() != nil {
			t.Fatalf("down after %d silent checks, want %d", i, checkFailures)
		}
		frozen.heard(silent)
	}
	line, err := reader.ReadString('\n')
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("read %q, %v from an upstream that is down, want the end of the connection", line, err)
	}
	if status, _ := get(t, s.URL); status != http.StatusServiceUnavailable {
		t.Errorf("status while down = %d, want 503", status)
	}

	frozen.heard(ready)
	conn, reader = socket(t, s)
	if got, want := exchange(t, conn, reader, "again"), "frozen again"; got != want {
		t.Errorf("answer after it came back = %q, want %q", got, want)
	}
}

func TestUpstream_KeepsItsSessionsWhileItIsNotReady(t *testing.T) {
	t.Parallel()
	waiting := newUpstream(address(echo(t, "waiting")), "")
	s := front(t, waiting)
	conn, reader := socket(t, s)
	for range 2 * checkFailures {
		waiting.heard(notReady)
	}
	if status, _ := get(t, s.URL); status != http.StatusServiceUnavailable {
		t.Errorf("status of a new request = %d, want 503", status)
	}
	if got, want := exchange(t, conn, reader, "still here"), "waiting still here"; got != want {
		t.Errorf("answer on the old connection = %q, want %q", got, want)
	}
}

func TestPool_CheckFollowsReadyz(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	waiting, dead := newUpstream("127.0.0.1:1", refusing.URL), newUpstream("127.0.0.1:1", gone.URL)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		newPool([]*upstream{waiting, dead}).check(ctx)
	}()
	life, _ := dead.state()
	select {
	case <-life.Done():
	case <-time.After(patience):
		t.Error("an upstream that does not answer is still up")
	}
	if life, takes := waiting.state(); takes || life.Err() != nil {
		t.Errorf("an upstream that is not ready: takes clients %t, %v, want neither new ones nor an end", takes, life.Err())
	}
	cancel()
	<-done
}
