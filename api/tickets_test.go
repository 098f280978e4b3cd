package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/api"
)

// withTicket asks for a ticket, with header lines as they are.
func (w *world) withTicket(lines ...string) string {
	w.Helper()
	a := w.send(request("POST /tickets HTTP/1.1", append(lines, "Content-Length: 0")...))
	if a.StatusCode != http.StatusCreated || a.Header.Get("Cache-Control") != "no-store" {
		w.Fatalf("ask for a ticket: got %s, Cache-Control %q\n%s", a.Status, a.Header.Get("Cache-Control"), a.body)
	}
	var made struct {
		Ticket  string
		Expires time.Time
	}
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		w.Fatalf("the ticket: %v\n%s", err, a.body)
	}
	if left := time.Until(made.Expires); left > 30*time.Second || left < 28*time.Second {
		w.Errorf("the ticket is good for %v, want 30 s", left)
	}
	return w.secret(made.Ticket)
}

func TestTicket_IsGoodOnceForTheUser(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		ticket := w.withTicket("Authorization: Bearer " + w.token("alice"))
		c := w.dial(handshake{query: "ticket=" + url.QueryEscape(ticket)})
		if got := c.next("reelay.ready").field("user"); got != "alice" {
			w.Errorf("got user %s, want alice", got)
		}
		_, refusal := w.try(handshake{query: "ticket=" + ticket})
		refusal.problem(w.T, 401, "invalid_ticket")
	})
}

func TestTicket_Refused(t *testing.T) {
	t.Parallel()
	const app, evil = "Origin: https://app.example.com", "Origin: https://other.example.com"
	for name, c := range map[string]struct {
		make []string // headers of the request for it
		use  []string
		late time.Duration
		code int // 101: it is good
	}{
		"a page's own":                  {[]string{app}, []string{app}, 0, 101},
		"after 29 s":                    {nil, nil, 29 * time.Second, 101},
		"after 30 s":                    {nil, nil, 30*time.Second + time.Millisecond, 401},
		"another page's":                {[]string{app}, []string{evil}, 0, 3000},
		"a page's, used by a program":   {[]string{app}, nil, 0, 401},
		"a program's, used by a page":   {nil, []string{app}, 0, 3000},
		"the host's own page":           {[]string{"Origin: http://reelay.test"}, []string{"Sec-Fetch-Site: same-origin"}, 0, 101},
		"another page, as the host's":   {[]string{app}, []string{"Sec-Fetch-Site: same-origin"}, 0, 401},
		"a program's, as the host's":    {nil, []string{"Sec-Fetch-Site: same-origin"}, 0, 401},
		"beside a token":                {nil, []string{"Authorization: Bearer GOOD"}, 0, 400},
		"beside a token in subprotocol": {nil, []string{"Sec-WebSocket-Protocol: reelay.v1, reelay.bearer.GOOD"}, 0, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				token := w.token("alice")
				ticket := w.withTicket(append(c.make, "Authorization: Bearer "+token)...)
				pass(c.late)
				use := strings.ReplaceAll(strings.Join(c.use, "\r\n"), "GOOD", token)
				if c.code == 3000 {
					w.browseAt("ticket="+ticket, use).closed(3000, "invalid_ticket")
					return
				}
				var lines []string
				if use != "" {
					lines = append(lines, use)
				}
				if a := w.send(upgradeRequest("/events?ticket="+ticket, lines...)); a.StatusCode != c.code {
					w.Errorf("got %s, want %d\n%s", a.Status, c.code, a.body)
				}
			}, func(w *world) {
				w.server.AllowedOrigins = []string{"https://app.example.com", "https://other.example.com", "http://reelay.test"}
			})
		})
	}
}

func TestTicket_WhatIsNone(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for query, want := range map[string]string{
			"ticket=":                           "invalid_ticket",
			"ticket=x":                          "invalid_ticket",
			"ticket=" + strings.Repeat("A", 43): "invalid_ticket",
			"ticket=" + strings.Repeat("A", 44): "invalid_ticket",
			"ticket=" + strings.Repeat("*", 43): "invalid_ticket",
			"ticket=" + w.token("alice"):        "invalid_ticket",
			"ticket=A&ticket=B":                 "ambiguous_credentials",
		} {
			_, refusal := w.try(handshake{query: query})
			refusal.problem(w.T, refusal.StatusCode, want)
		}
	})
}

func TestTicket_AllowNamesTheMethod(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.send(request("GET /tickets HTTP/1.1", "Authorization: Bearer "+w.token("alice")))
		a.problem(w.T, http.StatusMethodNotAllowed, "method_not_allowed")
		if got := a.Header.Get("Allow"); got != http.MethodPost {
			w.Errorf("got Allow %q, want POST", got)
		}
	})
}

func TestTicket_WhoMayAsk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"nobody":             {request("POST /tickets HTTP/1.1", "Content-Length: 0"), 401, "unauthorized"},
		"a bad token":        {request("POST /tickets HTTP/1.1", "Content-Length: 0", "Authorization: Bearer xGOOD"), 401, "invalid_token"},
		"by GET":             {request("GET /tickets HTTP/1.1", "Authorization: Bearer GOOD"), 405, "method_not_allowed"},
		"another's page":     {request("POST /tickets HTTP/1.1", "Content-Length: 0", "Origin: https://evil.example", "Authorization: Bearer GOOD"), 403, "origin_not_allowed"},
		"with a body":        {request("POST /tickets HTTP/1.1", "Content-Length: 2", "Authorization: Bearer GOOD") + "{}", 400, "unexpected_body"},
		"a token in the URL": {request("POST /tickets?access_token=GOOD HTTP/1.1", "Content-Length: 0"), 401, "unauthorized"},
		"a ticket":           {request("POST /tickets?ticket=AAAA HTTP/1.1", "Content-Length: 0"), 401, "unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.send(strings.ReplaceAll(c.request, "GOOD", w.token("alice"))).problem(w.T, c.status, c.code)
			})
		})
	}
}

// A ticket is worth no more than the token it was made from: not longer, and not when that is revoked.
func TestTicket_LivesNoLongerThanItsToken(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		soon := w.tokenFor("alice", 40*time.Second)
		pass(45 * time.Second) // within the leeway
		ticket := w.withTicket("Authorization: Bearer " + soon)
		pass(25 * time.Second)
		_, refusal := w.try(handshake{query: "ticket=" + ticket})
		refusal.problem(w.T, 401, "token_expired")

		ticket = w.withTicket("Authorization: Bearer " + w.token("alice"))
		w.revocable.deny("alice", "")
		_, refusal = w.try(handshake{query: "ticket=" + ticket})
		refusal.problem(w.T, 401, "token_revoked")
	})
}

func TestTicket_OfManyUsesOneSucceeds(t *testing.T) {
	t.Parallel()
	onTCP(t, func(w *world) {
		ticket := w.withTicket("Authorization: Bearer " + w.token("alice"))
		var all sync.WaitGroup
		codes := make(chan int, 20)
		for range cap(codes) {
			all.Go(func() { codes <- w.send(upgradeRequest("/events?ticket=" + ticket)).StatusCode })
		}
		all.Wait()
		got := make(map[int]int)
		for range cap(codes) {
			got[<-codes]++
		}
		if got[101] != 1 || got[401] != cap(codes)-1 {
			w.Errorf("got answers %v, want 101 once and 401 else", got)
		}
	})
}

// brokenTickets is a store that is away.
type brokenTickets struct{}

func (brokenTickets) Put(context.Context, string, []byte, time.Duration) error {
	return errors.New("away")
}

func (brokenTickets) Take(context.Context, string) ([]byte, error) { return nil, errors.New("away") }

func TestTicket_StoreAway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.send(request("POST /tickets HTTP/1.1", "Content-Length: 0", "Authorization: Bearer "+w.token("alice")))
		a.problem(w.T, 503, "tickets_unavailable")
		if a.Header.Get("Retry-After") == "" {
			w.Error("a 503 without Retry-After")
		}
		_, refusal := w.try(handshake{query: "ticket=" + strings.Repeat("A", 43)})
		refusal.problem(w.T, 503, "tickets_unavailable")
	}, func(w *world) { w.server.Tickets = brokenTickets{} })
}

func TestTicket_RateIsLimited(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		ask := request("POST /tickets HTTP/1.1", "Content-Length: 0", "Authorization: Bearer "+w.token("alice"))
		for range 3 {
			w.secret(w.send(ask).body)
		}
		w.send(ask).problem(w.T, 429, "rate_limited")
	}, limited(func(l *api.Limits) { l.ConnectionsPerUser = 3 }))
}
