package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
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
	conn, err := w.dialer(context.Background(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	if _, err := io.WriteString(conn, upgradeRequest("/events", "Authorization: Bearer "+w.token("alice"), "X-Forwarded-For: "+address)); err != nil {
		w.Fatalf("send a handshake: %v", err)
	}
	if a := w.read(conn); a.StatusCode != http.StatusSwitchingProtocols {
		w.Fatalf("connect as %s: got %s", address, a.Status)
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
		if got := w.metric(`reelay_refused_total{code="rate_limited"}`); got != "2" {
			w.Errorf("got %s refusals counted, want 2 (the third was a close)", got)
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
