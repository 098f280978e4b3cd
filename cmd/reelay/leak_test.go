package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// errand is one thing a client does, with credentials in all the places where one may put them.
type errand struct {
	method, path string
	lines        []string
	status       int
}

// TestServe_TellsNoSecret runs good, bad, stolen and misplaced credentials past a gateway that logs all it can, and then
// looks for each of them, and for the secrets it was started with, in everything that it tells anybody.
func TestServe_TellsNoSecret(t *testing.T) {
	t.Parallel()
	const redisPassword, postgresPassword, redisSecret = "the password of Redis", "the-password-of-Postgres", "what the replicas share, 32 bytes or more"
	b := newBackends(t, redisPassword)
	direct, err := url.Parse(b.database)
	if err != nil {
		t.Fatal(err)
	}
	direct.User = url.UserPassword(direct.User.Username(), postgresPassword)
	b.database = direct.String()
	s := serveWith(t, b, "REELAY_COOKIE=session", "REELAY_ALLOWED_ORIGINS=https://app.example.com", "REELAY_REDIS_SECRET="+redisSecret)

	good, other, expired := sign(t, "alice", time.Hour), sign(t, "bob", time.Hour), mint(t, time.Hour, 2*time.Hour, nil)
	forged := good[:len(good)-8] + "AAAAAAAA"
	revoked := sign(t, "mallory", time.Hour)
	b.do(t, "SELECT reelay.disconnect('mallory', 'found out')")
	secrets := []string{good, other, expired, forged, revoked, testSecret, redisPassword, postgresPassword, redisSecret}
	told := []string{} // every answer
	ask := func(e errand) reply {
		answer := s.ask(e.method, s.public+e.path, e.lines...)
		if answer.status != e.status {
			t.Errorf("%s %s: got %d, want %d\n%s", e.method, strings.SplitN(e.path, "?", 2)[0], answer.status, e.status, answer.body)
		}
		for name, values := range answer.header {
			told = append(told, name+": "+strings.Join(values, ", "))
		}
		return answer
	}
	bearer := func(token string) string { return "Authorization: Bearer " + token }
	const page, own = "Origin: https://app.example.com", "Sec-Fetch-Site: same-origin"
	var tickets []string
	for range 2 {
		made := ask(errand{http.MethodPost, "/tickets", []string{bearer(good), page}, http.StatusCreated})
		var ticket struct{ Ticket string }
		if err := json.Unmarshal([]byte(made.body), &ticket); err != nil || ticket.Ticket == "" {
			t.Fatalf("a ticket: %v: %s", err, made.body)
		}
		tickets = append(tickets, ticket.Ticket)
	}
	secrets = append(secrets, tickets...)
	for deadline := time.Now().Add(20 * time.Second); s.get(s.public+"/events", bearer(revoked)).status != http.StatusUnauthorized; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a token that was revoked is still good")
		}
	}
	for _, e := range []errand{
		{http.MethodGet, "/events", []string{bearer(good)}, 200},
		{http.MethodGet, "/events", []string{own, "Cookie: session=" + good}, 200},
		{http.MethodGet, "/events?ticket=" + tickets[0], []string{page}, 200},
		{http.MethodGet, "/events?ticket=" + tickets[0], []string{page}, 401},
		{http.MethodGet, "/events?ticket=" + tickets[1], nil, 401},
		{http.MethodGet, "/events", []string{bearer(expired)}, 401},
		{http.MethodGet, "/events", []string{bearer(forged)}, 401},
		{http.MethodGet, "/events", []string{bearer(revoked)}, 401},
		{http.MethodGet, "/events", []string{bearer(good), "Accept: text/event-stream", "Last-Event-ID: " + good}, 400},
		{http.MethodGet, "/events", []string{bearer(good + " " + other)}, 401},
		{http.MethodGet, "/events", []string{bearer(good), bearer(other)}, 400},
		{http.MethodGet, "/events", []string{own, bearer(good), "Cookie: session=" + other}, 400},
		{http.MethodGet, "/events", []string{"Cookie: session=" + good}, 403},
		{http.MethodGet, "/events", []string{"Origin: https://" + good[:20] + ".example", bearer(good)}, 403},
		{http.MethodGet, "/events?access_token=" + good, nil, 400},
		{http.MethodGet, "/events?token=" + good, []string{bearer(other)}, 400},
		{http.MethodGet, "/events?after=" + good, []string{bearer(good)}, 400},
		{http.MethodGet, "/events?video=" + good, []string{bearer(good)}, 200},
		{http.MethodGet, "/events?snapshot=" + good, []string{bearer(good)}, 400},
		{http.MethodGet, "/events/" + good, nil, 404},
		{http.MethodGet, "/" + good, []string{bearer(good), "Referer: https://app.example.com/?token=" + good}, 404},
		{http.MethodPost, "/events?access_token=" + good, []string{bearer(good)}, 405},
		{http.MethodPost, "/tickets", []string{bearer(expired)}, 401},
		{http.MethodPost, "/tickets", []string{"Origin: https://evil.example", bearer(good)}, 403},
	} {
		if answer := ask(e); e.status >= http.StatusBadRequest {
			told = append(told, answer.body)
		}
	}
	// Browsers are told by close code.
	for _, token := range []string{expired, forged, revoked, good + good} {
		dialer := websocket.Dialer{Subprotocols: []string{"reelay.v1", "reelay.bearer." + token}}
		socket, response, err := dialer.DialContext(t.Context(), strings.Replace(s.public, "http", "ws", 1)+"/events", http.Header{"Origin": {"https://app.example.com"}})
		if err != nil {
			t.Fatalf("a browser is not let in to be told why: %v", err)
		}
		_ = response.Body.Close()
		_, _, err = socket.ReadMessage()
		told = append(told, response.Header.Get("Sec-WebSocket-Protocol"), err.Error())
		_ = socket.Close()
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/"} {
		told = append(told, s.get(s.admin+path).body)
	}
	told = append(told, s.logged())
	if n := strings.Count(s.logged(), `"msg":"refused"`); n < 20 {
		t.Errorf("the log tells of %d refusals: it was not asked to tell all", n)
	}
	for _, secret := range secrets {
		// A part of a token is too much: its payload says who it is, its signature opens the door.
		for part := range strings.SplitSeq(secret, ".") {
			for _, text := range told {
				if strings.Contains(text, part) || strings.Contains(text, url.QueryEscape(part)) {
					t.Errorf("%.12s… is told in:\n%.2000s", part, text)
				}
			}
		}
	}
}
