package api_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// deny refuses a user or a token from now on.
func (r *revocable) deny(user, tokenID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if user != "" {
		r.users[user] = true
	} else {
		r.tokens[tokenID] = true
	}
}

// revokeNow does what the program does when it hears of a revocation.
func (w *world) revokeNow(user, tokenID string) {
	w.revocable.deny(user, tokenID)
	w.revoke(user, tokenID)
}

// tokenNamed returns a token of a user with a jti.
func (w *world) tokenNamed(user, id string) string {
	w.Helper()
	return w.sign(jwt.MapClaims{"sub": user, "jti": id, "exp": time.Now().Add(time.Hour).Unix()})
}

func TestRevoke_AUser(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		one, two, bob := w.live("alice"), w.live("alice"), w.live("bob")
		w.revokeNow("alice", "")
		one.closed(3000, "token_revoked")
		two.closed(3000, "token_revoked")
		bob.silent()
		_, refusal := w.try(handshake{user: "alice"})
		refusal.problem(w.T, 401, "token_revoked")
		w.dial(handshake{user: "alice", origin: page}).closed(3000, "token_revoked")
	})
}

func TestRevoke_ATokenAndNoOther(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		lost, kept := w.dial(handshake{token: w.tokenNamed("alice", "t1")}), w.dial(handshake{token: w.tokenNamed("alice", "t2")})
		unnamed := w.live("alice")
		for _, c := range []*client{lost, kept} {
			c.next("reelay.ready")
			c.next("reelay.snapshot")
		}
		w.revokeNow("", "t1")
		lost.closed(3000, "token_revoked")
		kept.silent()
		unnamed.silent()
		_, refusal := w.try(handshake{token: w.tokenNamed("alice", "t1")})
		refusal.problem(w.T, 401, "token_revoked")
	})
}

// A session that was extended by a fresh token lives by that one alone.
func TestRevoke_AfterARefresh(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{token: w.tokenNamed("alice", "t1"), query: "snapshot=0"})
		c.next("reelay.ready")
		pass(time.Second)
		c.auth(w.tokenNamed("alice", "t2"))
		c.next("reelay.renewed")
		w.revokeNow("", "t1")
		c.silent()
		w.revokeNow("", "t2")
		c.closed(3000, "token_revoked")
	})
}

// Whoever connects while the revocation arrives is refused or closed, whichever comes first.
func TestRevoke_WhileConnecting(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]int{"before the first check": 1, "after it, before the connection is known": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				calls := 0
				var once sync.Mutex
				w.revocable.beforeCheck = func() {
					once.Lock()
					defer once.Unlock()
					if calls++; calls == call {
						w.revokeNow("alice", "")
					}
				}
				_, refusal := w.try(handshake{user: "alice"})
				refusal.problem(w.T, 401, "token_revoked")
				synctest.Wait()
				if got := w.metric("reelay_sessions"); got != "0" {
					w.Errorf("%s sessions are left, want none", got)
				}
			})
		})
	}
}

func TestRevoke_WhileATokenIsRefreshed(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{token: w.tokenNamed("alice", "t1"), query: "snapshot=0"})
		c.next("reelay.ready")
		pass(time.Second)
		w.revocable.beforeCheck = sync.OnceFunc(func() { w.revokeNow("", "t2") })
		c.auth(w.tokenNamed("alice", "t2"))
		c.closed(3000, "token_revoked")
	})
}

func TestRevoke_APollThatWaits(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		cursor := w.live("alice").cursor(w)
		for _, c := range []struct{ token, user, id string }{
			{w.tokenNamed("alice", "t1"), "", "t1"},
			{w.tokenNamed("alice", "t2"), "alice", ""},
		} {
			poll := request("GET /events?wait=30&after="+cursor+" HTTP/1.1", "Authorization: Bearer "+c.token)
			done := make(chan answer, 1)
			go func() { done <- w.send(poll) }()
			pass(time.Second)
			w.revokeNow(c.user, c.id)
			(<-done).problem(w.T, 401, "token_revoked")
			w.send(poll).problem(w.T, 401, "token_revoked")
		}
	})
}

// cursor returns where a client that is live stands, who has heard nothing yet.
func (c *client) cursor(w *world) string {
	w.Helper()
	w.publish(updated("alice", "seen", `{}`))
	return c.next("video.updated").ID
}
