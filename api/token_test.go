package api_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// sign makes a token of any claims.
func (w *world) sign(claims jwt.MapClaims) string {
	w.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("a secret of thirty-two bytes, or more"))
	if err != nil {
		w.Fatalf("sign a token: %v", err)
	}
	return w.secret(token)
}

// TestToken_Refused checks for each bad token what a program is told, by HTTP, and what a browser is, by close code: in a
// header, as a subprotocol and in a frame.
func TestToken_Refused(t *testing.T) {
	t.Parallel()
	header := func(lines ...string) func(*world) []string { return func(*world) []string { return lines } }
	for name, c := range map[string]struct {
		token  func(w *world) string // empty: none
		lines  func(w *world) []string
		status int
		code   string
		close  int
	}{
		"one segment":    {token: func(w *world) string { return w.secret("justonesegment") }, status: 401, code: "invalid_token", close: 3000},
		"two segments":   {token: func(w *world) string { return w.cut(2) }, status: 401, code: "invalid_token", close: 3000},
		"four segments":  {token: func(w *world) string { return w.token("alice") + ".AAAA" }, status: 401, code: "invalid_token", close: 3000},
		"five segments":  {token: func(w *world) string { return w.token("alice") + ".AAAA.AAAA" }, status: 401, code: "invalid_token", close: 3000},
		"empty segments": {token: func(*world) string { return ".." }, status: 401, code: "invalid_token", close: 3000},
		"a byte changed": {token: func(w *world) string { return flip(w.token("alice")) }, status: 401, code: "invalid_token", close: 3000},
		"alg none": {token: func(w *world) string {
			head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
			return head + w.token("alice")[strings.Index(w.token("alice"), "."):]
		}, status: 401, code: "invalid_token", close: 3000},
		"expired": {token: func(w *world) string {
			return w.sign(jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(-31 * time.Second).Unix()})
		}, status: 401, code: "token_expired", close: 3000},
		"not yet": {token: func(w *world) string {
			return w.sign(jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(time.Minute).Unix()})
		}, status: 401, code: "invalid_token", close: 3000},
		"issued tomorrow": {token: func(w *world) string {
			return w.sign(jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Add(time.Minute).Unix()})
		}, status: 401, code: "invalid_token", close: 3000},
		"no end":  {token: func(w *world) string { return w.sign(jwt.MapClaims{"sub": "alice"}) }, status: 401, code: "invalid_token", close: 3000},
		"no user": {token: func(w *world) string { return w.sign(jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()}) }, status: 401, code: "invalid_token", close: 3000},
		"8 KiB":   {token: func(w *world) string { return w.token("alice") + strings.Repeat("A", 8<<10) }, status: 401, code: "invalid_token", close: 3000},

		"leading space":     {lines: func(w *world) []string { return []string{"Authorization: Bearer  " + w.token("alice")} }, status: 401, code: "invalid_token", close: 3000},
		"no word":           {lines: header("Authorization: Bearer "), status: 401, code: "invalid_token", close: 3000},
		"a word more":       {lines: func(w *world) []string { return []string{"Authorization: Bearer " + w.token("alice") + " x"} }, status: 401, code: "invalid_token", close: 3000},
		"padded base64":     {lines: func(w *world) []string { return []string{"Authorization: Bearer " + w.token("alice") + "="} }, status: 401, code: "invalid_token", close: 3000},
		"empty subprotocol": {lines: header("Sec-WebSocket-Protocol: reelay.v1, reelay.bearer."), status: 401, code: "invalid_token", close: 3000},
		"two places": {lines: func(w *world) []string {
			return []string{"Authorization: Bearer " + w.token("alice"), "Sec-WebSocket-Protocol: reelay.v1, reelay.bearer." + w.token("bob")}
		}, status: 400, code: "ambiguous_credentials", close: 1008},
		"two headers": {lines: func(w *world) []string {
			return []string{"Authorization: Bearer " + w.token("alice"), "Authorization: Bearer " + w.token("alice")}
		}, status: 400, code: "ambiguous_credentials", close: 1008},
		"two subprotocols": {lines: func(w *world) []string {
			return []string{"Sec-WebSocket-Protocol: reelay.v1, reelay.bearer." + w.token("alice") + ", reelay.bearer." + w.token("bob")}
		}, status: 400, code: "ambiguous_credentials", close: 1008},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				var ways []http.Header
				if c.lines != nil {
					h := make(http.Header)
					for _, line := range c.lines(w) {
						name, value, _ := strings.Cut(line, ": ")
						h[http.CanonicalHeaderKey(name)] = append(h[http.CanonicalHeaderKey(name)], value)
					}
					ways = append(ways, h)
				} else {
					token := c.token(w)
					ways = append(ways, http.Header{"Authorization": {"Bearer " + token}},
						http.Header{"Sec-Websocket-Protocol": {"reelay.v1, reelay.bearer." + token}})
				}
				for _, h := range ways {
					lines := make([]string, 0, len(h))
					for name, values := range h {
						for _, value := range values {
							lines = append(lines, name+": "+value)
						}
					}
					a := w.send(upgradeRequest("/events", lines...))
					a.problem(w.T, c.status, c.code)
					if got := a.Header.Get("WWW-Authenticate"); (got != "") != (c.status == 401) {
						w.Errorf("got WWW-Authenticate %q with %d", got, c.status)
					}
					w.browse(lines...).closed(c.close, c.code)
				}
				if c.token != nil {
					b := w.dial(handshake{origin: page})
					b.auth(c.token(w))
					b.closed(c.close, c.code)
				}
			})
		})
	}
}

// cut returns the first segments of a good token.
func (w *world) cut(segments int) string {
	return strings.Join(strings.SplitN(w.token("alice"), ".", 3)[:segments], ".")
}

// flip changes a bit in the middle of the signature.
func flip(token string) string {
	b := []byte(token)
	if i := len(b) - 10; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

func TestToken_WhereItComesFrom(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(w *world, token string) *client{
		"header": func(w *world, token string) *client { return w.dial(handshake{token: token}) },
		"subprotocol": func(w *world, token string) *client {
			return w.dial(handshake{protocols: []string{"reelay.v1", "reelay.bearer." + token}})
		},
		"subprotocol of a page": func(w *world, token string) *client {
			return w.dial(handshake{protocols: []string{"reelay.v1", "reelay.bearer." + token}, origin: page})
		},
		"frame of a page": func(w *world, token string) *client {
			c := w.dial(handshake{origin: page})
			c.auth(token)
			return c
		},
		"frame of a program that knows them": func(w *world, token string) *client {
			c := w.dial(handshake{protocols: []string{"reelay.v1"}})
			c.auth(token)
			return c
		},
		"both the same": func(w *world, token string) *client {
			return w.dial(handshake{token: token, protocols: []string{"reelay.v1", "reelay.bearer." + token}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.log.row("alice", "v", `{}`)
				c := connect(w, w.token("alice"))
				if got := c.next("reelay.ready").field("user"); got != "alice" {
					w.Errorf("got user %q, want alice", got)
				}
				c.next("reelay.snapshot")
				w.publish(updated("bob", "v", `{"whose":"bob"}`), updated("alice", "v", `{"whose":"alice"}`))
				if got := c.next("video.updated").field("whose"); got != "alice" {
					w.Errorf("got an event of %s, want alice", got)
				}
				c.silent()
			})
		})
	}
}

func TestToken_FirstFrame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		frames []string
		code   int
		reason string
		after  time.Duration
	}{
		"nothing":         {nil, 3008, "auth_timeout", 5 * time.Second},
		"ping":            {[]string{`{"type":"ping"}`}, 3000, "unauthorized", 0},
		"subscribe":       {[]string{`{"type":"subscribe","videos":["v"]}`}, 3000, "unauthorized", 0},
		"not understood":  {[]string{`{}`, `[]`, `x`, `{"type":"auth"}`, `1`}, 1008, "invalid_frame", 0},
		"a bad token":     {[]string{`{"type":"auth","token":"x"}`}, 3000, "invalid_token", 0},
		"bad, then again": {[]string{`{"type":"auth","token":"x"}`, `{"type":"auth","token":"y"}`}, 3000, "invalid_token", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				start := time.Now()
				client := w.dial(handshake{origin: page})
				for _, f := range c.frames {
					client.send(f)
				}
				for range len(c.frames) - 1 {
					if c.reason == "invalid_frame" {
						client.nextError("invalid_frame")
					}
				}
				client.closed(c.code, c.reason)
				if took := time.Since(start); took != c.after {
					w.Errorf("it took %v, want %v", took, c.after)
				}
			})
		})
	}
}

// TestToken_FirstFrameInTime has the token come within the limit, and the log take longer than that.
func TestToken_FirstFrameInTime(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{origin: page})
		pass(4 * time.Second)
		release := w.log.hold()
		c.auth(w.token("alice"))
		pass(4 * time.Second)
		release()
		c.next("reelay.ready")
		c.next("reelay.snapshot")
		pass(10 * time.Second)
		c.silent()
	})
}

func TestToken_ExpiresWhileConnected(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(w *world, token string) *client{
		"by header": func(w *world, token string) *client { return w.dial(handshake{token: token, query: "snapshot=0"}) },
		"by frame": func(w *world, token string) *client {
			c := w.dial(handshake{origin: page, query: "snapshot=0"})
			c.auth(token)
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				start := time.Now()
				c := connect(w, w.tokenFor("alice", 5*time.Minute))
				c.next("reelay.ready")
				pass(4*time.Minute - time.Millisecond)
				c.silent()
				pass(time.Millisecond)
				f := c.next("reelay.expiring")
				if got, want := f.field("expires"), start.Add(5*time.Minute).UTC().Format(time.RFC3339); got != want {
					w.Errorf("got expires %s, want %s", got, want)
				}
				pass(90*time.Second - time.Millisecond)
				w.publish(updated("alice", "v", `{}`))
				c.next("video.updated") // within the leeway
				pass(time.Millisecond)
				w.publish(updated("alice", "v", `{}`))
				c.closed(3000, "token_expired")
				w.publish(updated("alice", "v", `{}`))
				if got := w.metric("reelay_events_delivered_total"); got != "1" {
					w.Errorf("%s events were delivered, want 1", got)
				}
				if got := w.metric(`reelay_closes_total{code="token_expired"}`); got != "1" {
					w.Errorf("%s closes are counted, want 1", got)
				}
			})
		})
	}
}

// TestToken_ExpiresBeforeItsClientReads closes a session whose client takes nothing: nothing is delivered to it later.
func TestToken_ExpiresBeforeItsClientReads(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		inLeeway := w.sign(jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(-15 * time.Second).Unix()})
		c := w.dialUnread(handshake{token: inLeeway, query: "snapshot=0"})
		c.readOne("reelay.ready")
		pass(13 * time.Second) // 2 s before its end
		for range 10 {
			w.publish(updated("alice", "v", `{}`))
			synctest.Wait()
		}
		pass(3 * time.Second)
		go c.read()
		c.next("video.updated") // it was given to the socket before the end
		c.closed(3000, "token_expired")
	})
}

func TestToken_Renewed(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{token: w.tokenFor("alice", 2*time.Minute), query: "snapshot=0"})
		c.next("reelay.ready")
		pass(time.Minute)
		c.next("reelay.expiring")
		for range 3 {
			fresh := time.Now().Add(2 * time.Minute).UTC().Format(time.RFC3339)
			c.auth(w.tokenFor("alice", 2*time.Minute))
			if got := c.next("reelay.renewed").field("expires"); got != fresh {
				w.Errorf("renewed to %s, want %s", got, fresh)
			}
			pass(time.Minute - time.Millisecond)
			c.silent()
			pass(time.Millisecond)
			c.next("reelay.expiring")
		}
		w.publish(updated("alice", "v", `{}`))
		c.next("video.updated")
		pass(90 * time.Second)
		c.closed(3000, "token_expired")
	})
}

func TestToken_RenewedByAnOlderOne(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{token: w.tokenFor("alice", time.Hour), query: "snapshot=0"})
		expires := c.next("reelay.ready").field("expires")
		c.auth(w.tokenFor("alice", time.Minute))
		if got := c.next("reelay.renewed").field("expires"); got != expires {
			w.Errorf("an older token moved the end from %s to %s", expires, got)
		}
		pass(30 * time.Minute)
		c.silent()
	})
}

// TestToken_RenewedInTheLeeway has the fresh token come after the old one's end, as long as that is still good.
func TestToken_RenewedInTheLeeway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{token: w.tokenFor("alice", 10*time.Second), query: "snapshot=0"})
		c.next("reelay.ready")
		pass(39 * time.Second)
		c.auth(w.tokenFor("alice", 5*time.Minute))
		c.next("reelay.renewed")
		pass(3 * time.Minute)
		c.silent()
		pass(2 * time.Minute)
		c.next("reelay.expiring")
	})
}

func TestToken_RenewalRefused(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{token: w.tokenFor("alice", 2*time.Minute), query: "snapshot=0"})
		c.next("reelay.ready")
		c.auth("x.y.z")
		c.nextError("invalid_token")
		c.auth(w.sign(jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(-time.Hour).Unix()}))
		c.nextError("token_expired")
		w.publish(updated("alice", "v", `{}`))
		c.next("video.updated") // the session goes on until its own token ends
		pass(time.Minute)
		c.next("reelay.expiring")
		pass(90 * time.Second)
		c.closed(3000, "token_expired")
	})
}

func TestToken_OfAnotherUser(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("bob", "v", `{}`)
		c := w.live("alice")
		other := w.live("alice")
		c.auth(w.token("bob"))
		c.closed(3003, "user_mismatch")
		w.publish(updated("bob", "v", `{}`), updated("alice", "v", `{"whose":"alice"}`))
		if got := other.next("video.updated").field("whose"); got != "alice" {
			w.Errorf("the other session got an event of %q", got)
		}
		if got := w.log.asked(); len(got) > 0 {
			w.Errorf("bob's rows were read: %v", got)
		}
	})
}

// TestToken_OpaqueUsers has users with odd ids, which are nobody else.
func TestToken_OpaqueUsers(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		ids := []string{"u1", "*", "u1 ", "a:b", "[x]", `"`, `\`, "u1.2", "{u1}", "Ｕ1", "u1' OR 1=1", "<u1>"}
		clients := make(map[string]*client)
		for _, id := range ids {
			c := w.dial(handshake{user: id, query: "snapshot=0"})
			var data struct{ User string }
			unmarshal(w.T, c.next("reelay.ready").Data, &data)
			if data.User != id {
				w.Errorf("got user %q, want %q", data.User, id)
			}
			clients[id] = c
		}
		for _, id := range ids {
			for other := range clients {
				clients[other].silent()
			}
			w.publish(updated(ownerOf(id), "v", `{}`))
			clients[id].next("video.updated")
		}
	})
}
