package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func withCookie(w *world) {
	w.server.Cookie, w.server.AllowedOrigins = "session", []string{page, "https://app.example.com"}
}

// TestCookie_ProvesAUserToPagesOfAllowedOriginsOnly is about cross-site WebSocket hijacking: a browser sends the cookie
// along whoever's page it is that connects.
func TestCookie_ProvesAUserToPagesOfAllowedOriginsOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines  []string
		status int
		code   string
	}{
		"an allowed origin":           {[]string{"Origin: https://app.example.com", "Cookie: session=GOOD"}, 101, ""},
		"the host's own page":         {[]string{"Sec-Fetch-Site: same-origin", "Cookie: session=GOOD"}, 101, ""},
		"no origin":                   {[]string{"Cookie: session=GOOD"}, 403, "cookie_not_allowed"},
		"no origin, from a subdomain": {[]string{"Sec-Fetch-Site: same-site", "Cookie: session=GOOD"}, 403, "cookie_not_allowed"},
		"no origin, typed in":         {[]string{"Sec-Fetch-Site: none", "Cookie: session=GOOD"}, 403, "cookie_not_allowed"},
		"another's page":              {[]string{"Origin: https://evil.example", "Cookie: session=GOOD"}, 403, "origin_not_allowed"},
		"a page that looks alike":     {[]string{"Origin: https://app.example.com.evil.example", "Cookie: session=GOOD"}, 403, "origin_not_allowed"},
		"a sandboxed page":            {[]string{"Origin: null", "Cookie: session=GOOD"}, 403, "origin_not_allowed"},
		"cross-site, from no origin":  {[]string{"Sec-Fetch-Site: cross-site", "Cookie: session=GOOD"}, 403, "cookie_not_allowed"},
		"no origin, and a token":      {[]string{"Authorization: Bearer GOOD", "Cookie: session=GOOD"}, 403, "cookie_not_allowed"},
		"another cookie":              {[]string{"Cookie: other=GOOD"}, 401, "unauthorized"},
		"beside the same token":       {[]string{"Sec-Fetch-Site: same-origin", "Authorization: Bearer GOOD", "Cookie: session=GOOD"}, 101, ""},
		"beside another token":        {[]string{"Sec-Fetch-Site: same-origin", "Authorization: Bearer BOB", "Cookie: session=GOOD"}, 400, "ambiguous_credentials"},
		"two of the name":             {[]string{"Sec-Fetch-Site: same-origin", "Cookie: session=BOB; session=GOOD"}, 400, "ambiguous_credentials"},
		"beside a ticket":             {[]string{"Sec-Fetch-Site: same-origin", "Cookie: session=GOOD", "ticket"}, 400, "ambiguous_credentials"},
		"a bad one":                   {[]string{"Sec-Fetch-Site: same-origin", "Cookie: session=xGOOD"}, 401, "invalid_token"},
		"an empty one":                {[]string{"Sec-Fetch-Site: same-origin", "Cookie: session="}, 401, "unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				alice, bob := w.token("alice"), w.token("bob")
				target, lines := "/events", []string{}
				for _, line := range c.lines {
					if line == "ticket" {
						target += "?ticket=" + strings.Repeat("A", 43)
						continue
					}
					lines = append(lines, strings.NewReplacer("GOOD", alice, "BOB", bob).Replace(line))
				}
				a := w.send(upgradeRequest(target, lines...))
				if c.status == http.StatusSwitchingProtocols {
					if a.StatusCode != c.status {
						w.Errorf("got %s\n%s\nwant 101", a.Status, a.body)
					}
					return
				}
				a.problem(w.T, c.status, c.code)
			}, withCookie)
		})
	}
}

// A page is told by close code what a program is told by status.
func TestCookie_APageIsToldByCloseCode(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.browse("Cookie: session="+w.token("alice"), "Sec-Fetch-Site: cross-site").closed(3003, "cookie_not_allowed")
		w.browse("Cookie: session=nonsense").closed(3000, "invalid_token")
	}, withCookie)
}

// Where the operator has named no cookie, cookies mean nothing, good or bad.
func TestCookie_MeansNothingUnlessNamed(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.send(upgradeRequest("/events", "Cookie: session="+w.token("alice")))
		a.problem(w.T, 401, "unauthorized")
		a = w.send(upgradeRequest("/events", "Cookie: session="+w.token("bob"), "Authorization: Bearer "+w.token("alice")))
		if a.StatusCode != http.StatusSwitchingProtocols {
			w.Errorf("got %s, want 101", a.Status)
		}
	})
}

func TestTokenInURL_WhereItIsAllowed(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		alice, bob := w.token("alice"), w.token("bob")
		for query, want := range map[string]int{
			"access_token=" + alice:                          101,
			"token=" + alice:                                 101,
			"access_token=" + alice + "&token=" + alice:      101,
			"access_token=" + alice + "&access_token=" + bob: 400,
			"access_token=" + alice + "&token=" + bob:        400,
			"access_token=":                                  401,
			"access_token=x":                                 401,
		} {
			if a := w.send(upgradeRequest("/events?" + query)); a.StatusCode != want {
				w.Errorf("got %s, want %d", a.Status, want)
			}
		}
		c := w.dial(handshake{query: "access_token=" + alice})
		if got := c.next("reelay.ready").field("user"); got != "alice" {
			w.Errorf("got user %s, want alice", got)
		}
		_, refusal := w.try(handshake{query: "access_token=" + alice, user: "bob"})
		refusal.problem(w.T, 400, "ambiguous_credentials")
		w.dial(handshake{query: "access_token=" + alice, origin: page, token: bob}).closed(websocket.ClosePolicyViolation, "ambiguous_credentials")
	}, func(w *world) { w.server.TokenInURL = true })
}
