package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reelay/reelay/api"
)

func limited(change func(*api.Limits)) func(*world) {
	return func(w *world) { change(&w.server.Limits) }
}

// hangUp ends a client's connection, and waits for the server to have seen it.
func hangUp(c *client) {
	_ = c.NetConn().Close()
	synctest.Wait()
}

// hold connects as alice by TCP, and as somebody at an address if proxies are trusted to say so.
func (w *world) hold(address string) net.Conn {
	w.Helper()
	return w.holdWith("X-Forwarded-For: " + address)
}

// holdWith connects as alice by TCP, with some lines more.
func (w *world) holdWith(lines ...string) net.Conn {
	w.Helper()
	conn, err := w.dialer(context.Background(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	if _, err := io.WriteString(conn, upgradeRequest("/events", append(lines, "Authorization: Bearer "+w.token("alice"))...)); err != nil {
		w.Fatalf("send a handshake: %v", err)
	}
	if a := w.read(conn); a.StatusCode != http.StatusSwitchingProtocols {
		w.Fatalf("connect with %s: got %s", lines, a.Status)
	}
	return conn
}

func TestLimits_ConnectionsOfAUser(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		first := w.live("alice")
		w.live("alice")
		_, refusal := w.try(handshake{user: "alice"})
		refusal.problem(w.T, 429, "rate_limited")
		if refusal.Header.Get("Retry-After") == "" {
			w.Error("a 429 without Retry-After")
		}
		w.live("bob") // is not concerned
		browser := w.dial(handshake{user: "alice", origin: page})
		browser.closed(1013, "rate_limited")
		frame := w.dial(handshake{protocols: []string{"reelay.v1"}})
		frame.auth(w.token("alice"))
		frame.closed(1013, "rate_limited")

		hangUp(first)
		pass(time.Second) // so that the rate allows it
		w.live("alice")   // there is room again
		if got := w.metric(`reelay_limited_total{limit="connections_per_user"}`); got != "3" {
			w.Errorf("the limit was reached %s times, by the metric; want 3", got)
		}
	}, limited(func(l *api.Limits) { l.ConnectionsPerUser = 2; l.ConnectRatePerUser = 1e9 }))
}

func TestLimits_ConnectionsOfTheReplica(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.live("alice")
		last := w.live("bob")
		_, refusal := w.try(handshake{user: "carol"})
		refusal.problem(w.T, 429, "rate_limited")
		hangUp(last)
		w.live("carol")
	}, limited(func(l *api.Limits) { l.Connections = 2 }))
}

// Whoever is refused gives back what he was admitted to.
func TestLimits_RefusalsCountForNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for range 5 {
			_, refusal := w.try(handshake{token: "no.token.atall"})
			refusal.problem(w.T, 401, "invalid_token")
			w.dial(handshake{token: "no.token.atall", origin: page}).closed(3000, "invalid_token")
		}
		w.live("alice")
	}, limited(func(l *api.Limits) { l.Connections = 1 }))
}

// X-Forwarded-For of a peer that is no trusted proxy is ignored; a trusted proxy's tells clients apart.
func TestLimits_AddressesBehindProxies(t *testing.T) {
	t.Parallel()
	one := func(l *api.Limits) { l.ConnectionsPerIP = 1 }
	get := func(w *world, from string, status int) {
		w.Helper()
		a := w.send(upgradeRequest("/events", "Authorization: Bearer "+w.token("alice"), "X-Forwarded-For: "+from))
		if a.StatusCode != status {
			w.Errorf("for %s: got %s, want %d", from, a.Status, status)
		}
	}
	t.Run("not trusted", func(t *testing.T) {
		t.Parallel()
		onTCP(t, func(w *world) {
			conn := w.hold("203.0.113.1")
			defer conn.Close()
			get(w, "203.0.113.1", 101)
		}, limited(one))
	})
	t.Run("trusted", func(t *testing.T) {
		t.Parallel()
		onTCP(t, func(w *world) {
			conn := w.hold("203.0.113.1")
			defer conn.Close()
			get(w, "203.0.113.1", 429)
			get(w, "203.0.113.9, 203.0.113.1", 429) // what the client itself put there means nothing
			get(w, "203.0.113.2", 101)
		}, limited(one), func(w *world) { w.server.TrustedProxies = []string{"127.0.0.0/8"} })
	})
}

// Headers that are too slow or too many are cut by net/http, and counted all the same.
func TestLimits_HeadersAreCounted(t *testing.T) {
	t.Parallel()
	const counted = `reelay_limited_total{limit="headers"}`
	inWorld(t, func(w *world) {
		conn, err := w.dialer(w.Context(), "", "")
		if err != nil {
			w.Fatalf("connect: %v", err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\n"); err != nil {
			w.Fatalf("send a line: %v", err)
		}
		pass(6 * time.Second)
		if got := w.metric(counted); got != "1" {
			w.Errorf("after slow headers: counted %s, want 1", got)
		}
		if a := w.send(request("GET /events HTTP/1.1", "X: "+strings.Repeat("x", 17<<10))); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			w.Errorf("got %s, want 431", a.Status)
		}
		w.send(request("GET /nothing HTTP/1.1", "Connection: close"))
		hangUp(w.live("alice"))
		silent, err := w.dialer(w.Context(), "", "")
		if err != nil {
			w.Fatalf("connect: %v", err)
		}
		silent.Close()
		pass(time.Second)
		if got := w.metric(counted); got != "2" {
			w.Errorf("after headers that are too big, and three that are fine: counted %s, want 2", got)
		}
	})
}
