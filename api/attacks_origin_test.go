package api_test

import (
	"net/http"
	"testing"
)

// foreign are the headers by which a browser tells that a page is not one of https://app.example.com, or does not tell
// whose it is; or by which somebody tries to have it mistaken for one.
var foreign = map[string][]string{
	"another's page":        {"Origin: https://evil.example"},
	"one named alike":       {"Origin: https://app.example.com.evil"},
	"one named alike, more": {"Origin: https://app.example.comevil"},
	"a subdomain":           {"Origin: https://x.app.example.com"},
	"the domain above":      {"Origin: https://example.com"},
	"another scheme":        {"Origin: http://app.example.com"},
	"another port":          {"Origin: https://app.example.com:8443"},
	"with a path":           {"Origin: https://app.example.com/"},
	"as a user's name":      {"Origin: https://app.example.com@evil.example"},
	"with a fragment":       {"Origin: https://evil.example#https://app.example.com"},
	"a sandboxed page":      {"Origin: null"},
	"a file":                {"Origin: file://"},
	"an extension":          {"Origin: chrome-extension://abcdefghijklmnop"},
	"a star":                {"Origin: *"},
	"nothing":               {"Origin: "},
	"twice":                 {"Origin: https://app.example.com", "Origin: https://app.example.com"},
	"an allowed one first":  {"Origin: https://app.example.com", "Origin: https://evil.example"},
	"an allowed one last":   {"Origin: https://evil.example", "Origin: https://app.example.com"},
	"both in one":           {"Origin: https://app.example.com, https://evil.example"},
	"both, with a space":    {"Origin: https://evil.example https://app.example.com"},
	"the gateway's own":     {"Origin: http://reelay.test"},
	"named by a proxy":      {"Origin: https://evil.example", "X-Forwarded-Host: app.example.com", "Forwarded: host=app.example.com"},
	"with a good referrer":  {"Origin: https://evil.example", "Referer: https://app.example.com/"},
}

func allowingTheApp(w *world) {
	w.server.Cookie, w.server.AllowedOrigins = "session", []string{"https://app.example.com"}
}

// TestAttack_ForeignOrigin has foreign pages ask with all that proves a user, a cookie among them: they are refused before
// any of it is looked at, and the browser is not told that the page may read the answer.
func TestAttack_ForeignOrigin(t *testing.T) {
	t.Parallel()
	for name, origins := range foreign {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			byEvery(t, func(w *world, by asking) {
				token := w.token("alice")
				ticket := w.withTicket("Authorization: Bearer " + token)
				for what, lines := range map[string][]string{
					"nothing": {}, "a token": {"Authorization: Bearer " + token}, "a bad token": {"Authorization: Bearer x.y.z"},
					"a cookie": {"Cookie: session=" + token}, "a cookie, and one's own site": {"Cookie: session=" + token, "Sec-Fetch-Site: same-origin"},
				} {
					for target, a := range map[string]answer{
						"/events":  w.ask(by.request("/events", append(lines, origins...)...)),
						"/tickets": w.ask(request("POST /tickets HTTP/1.1", append(append([]string{"Content-Length: 0"}, lines...), origins...)...)),
					} {
						a.problem(w.T, http.StatusForbidden, "origin_not_allowed")
						if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
							w.Errorf("%s, with %s: the page at %q may read the answer", target, what, got)
						}
						w.checkAnswer(a)
					}
				}
				w.ask(by.request("/events?ticket="+ticket, origins...)).problem(w.T, http.StatusForbidden, "origin_not_allowed")
				w.ask(by.request("/events?ticket="+ticket)).letIn(w.T, by) // it was not even looked up
				w.healthy()
			}, allowingTheApp)
		})
	}
}

// The page of an allowed origin gets in by the same requests.
func TestAttack_ForeignOriginIsNotTheAllowedOne(t *testing.T) {
	t.Parallel()
	byEvery(t, func(w *world, by asking) {
		for _, line := range []string{"Authorization: Bearer ", "Cookie: session="} {
			a := w.ask(by.request("/events", line+w.token("alice"), "Origin: https://app.example.com"))
			a.letIn(w.T, by)
			if got := a.Header.Get("Access-Control-Allow-Origin"); by.name != "socket" && got != "https://app.example.com" {
				w.Errorf("the page that may read the answer is %q, want it to be the one that asked", got)
			}
		}
	}, allowingTheApp)
}

// TestAttack_CookieWithoutAPage has a browser send the cookie along with a request that no page of ours made: a link that
// was clicked, an image, a form, a request without CORS. None of these carries an Origin.
func TestAttack_CookieWithoutAPage(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"nothing is told":        nil,
		"a link on another site": {"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"},
		"a request without CORS": {"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"},
		"a page of a subdomain":  {"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"},
		"an address typed in":    {"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"},
		"one's own, in capitals": {"Sec-Fetch-Site: SAME-ORIGIN"},
		"one's own, and another": {"Sec-Fetch-Site: same-origin, cross-site"},
		"a referrer":             {"Referer: https://app.example.com/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			byEvery(t, func(w *world, by asking) {
				token := w.token("alice")
				a := w.ask(by.request("/events", append(lines, "Cookie: session="+token)...))
				a.problem(w.T, http.StatusForbidden, "cookie_not_allowed")
				w.checkAnswer(a)
				w.ask(request("POST /tickets HTTP/1.1", append(lines, "Content-Length: 0", "Cookie: session="+token)...)).problem(w.T, 403, "cookie_not_allowed")
				w.healthy()
			}, allowingTheApp)
		})
	}
}

// By a page that may, the cookie of one user does not go together with a token of another, and the cookie is no use where
// there are two: one may have been planted by a subdomain.
func TestAttack_CookieBesideAnother(t *testing.T) {
	t.Parallel()
	byEvery(t, func(w *world, by asking) {
		alice, bob := w.token("alice"), w.token("bob")
		for _, lines := range [][]string{
			{"Cookie: session=" + alice, "Authorization: Bearer " + bob},
			{"Cookie: session=" + alice + "; session=" + bob},
			{"Cookie: session=" + alice, "Cookie: session=" + bob},
		} {
			a := w.ask(by.request("/events", append(lines, "Sec-Fetch-Site: same-origin")...))
			a.problem(w.T, http.StatusBadRequest, "ambiguous_credentials")
			w.checkAnswer(a)
		}
		w.healthy()
	}, allowingTheApp)
}
