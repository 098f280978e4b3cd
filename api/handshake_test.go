package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// upgradeRequest is a handshake as text, with some lines more.
func upgradeRequest(target string, lines ...string) string {
	return request("GET "+target+" HTTP/1.1", append([]string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==",
	}, lines...)...)
}

func request(first string, lines ...string) string {
	return first + "\r\nHost: reelay.test\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// problem checks that an answer is a problem document of a code.
func (a answer) problem(t *testing.T, status int, code string) {
	t.Helper()
	var document struct {
		Type, Title, Code, Hint string
		Status                  int
	}
	if a.StatusCode != status || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %s, %s\n%s\nwant %d with problem %s", a.Status, a.Header.Get("Content-Type"), a.body, status, code)
	}
	if err := json.Unmarshal([]byte(a.body), &document); err != nil {
		t.Fatalf("the problem document: %v\n%s", err, a.body)
	}
	if document.Code != code || document.Status != status || document.Type != "about:blank" || document.Title == "" || document.Hint == "" {
		t.Errorf("got problem %s, want code %s and status %d with all members", a.body, code, status)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("got Cache-Control %q, want no-store", got)
	}
}

func TestHandshake_RefusedByHTTP(t *testing.T) {
	t.Parallel()
	const good = "Authorization: Bearer GOOD"
	big := strings.Repeat("x", 17<<10)
	for name, c := range map[string]struct {
		request string
		status  int
		code    string // empty: net/http answers, without a problem document
		header  [2]string
	}{
		"no Connection":        {strings.Replace(upgradeRequest("/events", good), "Connection: Upgrade", "X: y", 1), 426, "upgrade_required", [2]string{"Upgrade", "websocket"}},
		"no Upgrade":           {strings.Replace(upgradeRequest("/events", good), "Upgrade: websocket", "X: y", 1), 426, "upgrade_required", [2]string{"Upgrade", "websocket"}},
		"version 8":            {strings.Replace(upgradeRequest("/events", good), ": 13", ": 8", 1), 426, "upgrade_required", [2]string{"Sec-Websocket-Version", "13"}},
		"no version":           {strings.Replace(upgradeRequest("/events", good), "Sec-WebSocket-Version", "X", 1), 426, "upgrade_required", [2]string{}},
		"no key":               {strings.Replace(upgradeRequest("/events", good), "Sec-WebSocket-Key", "X", 1), 400, "invalid_handshake", [2]string{}},
		"short key":            {strings.Replace(upgradeRequest("/events", good), "AQIDBAUGBwgJCgsMDQ4PEA==", "AQID", 1), 400, "invalid_handshake", [2]string{}},
		"key not base64":       {strings.Replace(upgradeRequest("/events", good), "AQIDBAUGBwgJCgsMDQ4PEA==", "!!!!!!!!!!!!!!!!!!!!!!!!", 1), 400, "invalid_handshake", [2]string{}},
		"HTTP/1.0":             {strings.Replace(upgradeRequest("/events", good), "HTTP/1.1", "HTTP/1.0", 1), 400, "invalid_handshake", [2]string{}},
		"POST":                 {strings.Replace(upgradeRequest("/events", good), "GET", "POST", 1), 405, "method_not_allowed", [2]string{"Allow", "GET"}},
		"TRACE":                {request("TRACE /events HTTP/1.1", good), 405, "method_not_allowed", [2]string{"Allow", "GET"}},
		"OPTIONS":              {request("OPTIONS /events HTTP/1.1", good), 405, "method_not_allowed", [2]string{}},
		"a body":               {upgradeRequest("/events", good, "Content-Length: 2") + "{}", 400, "unexpected_body", [2]string{}},
		"a chunked body":       {upgradeRequest("/events", good, "Transfer-Encoding: chunked") + "0\r\n\r\n", 400, "unexpected_body", [2]string{}},
		"unknown subprotocol":  {upgradeRequest("/events", good, "Sec-WebSocket-Protocol: graphql-ws, reelay.v2"), 400, "unknown_subprotocol", [2]string{}},
		"bearer alone":         {upgradeRequest("/events", "Sec-WebSocket-Protocol: reelay.bearer.GOOD"), 400, "unknown_subprotocol", [2]string{}},
		"elsewhere":            {upgradeRequest("/", good), 404, "not_found", [2]string{}},
		"trailing slash":       {upgradeRequest("/events/?access_token=GOOD"), 404, "not_found", [2]string{}},
		"metrics":              {request("GET /metrics HTTP/1.1"), 404, "not_found", [2]string{}},
		"pprof":                {request("GET /debug/pprof/ HTTP/1.1"), 404, "not_found", [2]string{}},
		"readyz":               {request("GET /readyz HTTP/1.1"), 404, "not_found", [2]string{}},
		"healthz":              {request("GET /healthz HTTP/1.1"), 404, "not_found", [2]string{}},
		"no credential":        {upgradeRequest("/events"), 401, "unauthorized", [2]string{"Www-Authenticate", `Bearer realm="reelay"`}},
		"bad token":            {upgradeRequest("/events", "Authorization: Bearer GOODx"), 401, "invalid_token", [2]string{"Www-Authenticate", `Bearer realm="reelay"`}},
		"token in the URL":     {upgradeRequest("/events?token=GOOD"), 400, "token_in_url", [2]string{}},
		"access_token":         {upgradeRequest("/events?access_token=GOOD", good), 400, "token_in_url", [2]string{}},
		"cursor":               {upgradeRequest("/events?after=1", good), 400, "invalid_cursor", [2]string{}},
		"headers over 16 KiB":  {upgradeRequest("/events", good, "X-Filler: "+big), 431, "", [2]string{}},
		"many small headers":   {upgradeRequest("/events", good, strings.TrimSuffix(strings.Repeat("X: 1234567\r\n", 1500), "\r\n")), 431, "", [2]string{}},
		"cursor over 16 KiB":   {upgradeRequest("/events?after="+big, good), 431, "", [2]string{}},
		"header with no value": {upgradeRequest("/events", good, "no colon"), 400, "", [2]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				a := w.send(strings.ReplaceAll(c.request, "GOOD", w.token("alice")))
				if c.code == "" {
					if a.StatusCode != c.status {
						w.Fatalf("got %s, want %d", a.Status, c.status)
					}
					return
				}
				a.problem(w.T, c.status, c.code)
				if name := c.header[0]; name != "" && a.Header.Get(name) != c.header[1] {
					w.Errorf("got %s %q, want %q", name, a.Header.Get(name), c.header[1])
				}
			})
		})
	}
}

func TestHandshake_HeadersBelowTheLimitAreFine(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.send(upgradeRequest("/events", "Authorization: Bearer "+w.token("alice"), "X-Filler: "+strings.Repeat("x", 11<<10)))
		if a.StatusCode != http.StatusSwitchingProtocols {
			w.Errorf("got %s, want 101", a.Status)
		}
	})
}

func TestHandshake_SlowHeadersAreCutAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		conn, err := w.dialer(w.Context(), "", "")
		if err != nil {
			w.Fatalf("connect: %v", err)
		}
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			w.Fatalf("set a deadline: %v", err)
		}
		start := time.Now()
		sent := make(chan struct{})
		defer func() { <-sent }()
		go func() {
			defer close(sent)
			for _, b := range []byte(upgradeRequest("/events", "X-Filler: "+strings.Repeat("x", 100))) {
				if _, err := conn.Write([]byte{b}); err != nil {
					break
				}
				<-time.After(time.Second)
			}
		}()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			w.Errorf("the connection was not closed: %v", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			w.Errorf("a client that sends a byte a second was cut after %v, want 5 s", took)
		}
	})
}

// TestHandshake_BodyThatNeverComes is a slow body: net/http would wait for it before it answers, and for ever.
func TestHandshake_BodyThatNeverComes(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"events":    "GET /events HTTP/1.1",
		"elsewhere": "POST /nothing HTTP/1.1",
		"method":    "POST /events HTTP/1.1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				conn, err := w.dialer(w.Context(), "", "")
				if err != nil {
					w.Fatalf("connect: %v", err)
				}
				defer conn.Close()
				start := time.Now()
				if _, err := io.WriteString(conn, request(first, "Content-Length: 10")); err != nil {
					w.Fatalf("send: %v", err)
				}
				if err := conn.SetReadDeadline(start.Add(time.Minute)); err != nil {
					w.Fatalf("set a deadline: %v", err)
				}
				w.read(conn)
				if _, err := io.Copy(io.Discard, conn); err != nil {
					w.Errorf("the connection was not closed: %v", err)
				}
				if took := time.Since(start); took > 6*time.Second {
					w.Errorf("the connection was held for %v, want 5 s at most", took)
				}
			})
		})
	}
}

func TestHandshake_Origin(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allowed []string
		origins []string
		want    bool
	}{
		"none":                     {nil, nil, true},
		"the host itself":          {nil, []string{"http://reelay.test"}, true},
		"the host by TLS":          {nil, []string{"https://reelay.test"}, true},
		"the host in capitals":     {nil, []string{"http://REELAY.TEST"}, true},
		"another host":             {nil, []string{"http://evil.test"}, false},
		"another port":             {nil, []string{"http://reelay.test:81"}, false},
		"the host and more":        {nil, []string{"http://reelay.test.evil"}, false},
		"the host as user":         {nil, []string{"http://reelay.test@evil.test"}, false},
		"the host with a path":     {nil, []string{"http://reelay.test/x"}, false},
		"null":                     {nil, []string{"null"}, false},
		"empty":                    {nil, []string{""}, false},
		"twice":                    {nil, []string{"http://reelay.test", "http://reelay.test"}, false},
		"listed":                   {[]string{"https://app.example.com"}, []string{"https://app.example.com"}, true},
		"second of the list":       {[]string{"https://a.example", "https://app.example.com"}, []string{"https://app.example.com"}, true},
		"listed, other scheme":     {[]string{"https://app.example.com"}, []string{"http://app.example.com"}, false},
		"listed and more":          {[]string{"https://app.example.com"}, []string{"https://app.example.com.evil"}, false},
		"listed as a subdomain":    {[]string{"https://app.example.com"}, []string{"https://x.app.example.com"}, false},
		"listed, twice":            {[]string{"https://app.example.com"}, []string{"https://app.example.com", "https://app.example.com"}, false},
		"listed, and a foreign":    {[]string{"https://app.example.com"}, []string{"https://app.example.com", "https://evil.test"}, false},
		"two in one":               {[]string{"https://app.example.com"}, []string{"https://app.example.com https://evil.test"}, false},
		"a list, and the host":     {[]string{"https://app.example.com"}, []string{"http://reelay.test"}, false},
		"a list, and none":         {[]string{"https://app.example.com"}, nil, true},
		"all":                      {[]string{"*"}, []string{"http://evil.test"}, true},
		"all, and null":            {[]string{"*"}, []string{"null"}, false},
		"all, twice":               {[]string{"*"}, []string{"http://evil.test", "http://evil.test"}, false},
		"forwarded does not count": {nil, []string{"http://forwarded.test"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				lines := []string{
					"Authorization: Bearer " + w.token("alice"), "Cookie: session=good",
					"X-Forwarded-Host: forwarded.test", "X-Forwarded-For: 127.0.0.1",
				}
				for _, o := range c.origins {
					lines = append(lines, "Origin: "+o)
				}
				a := w.send(upgradeRequest("/events", lines...))
				if c.want {
					if a.StatusCode != http.StatusSwitchingProtocols {
						w.Errorf("got %s\n%s\nwant 101", a.Status, a.body)
					}
					return
				}
				a.problem(w.T, http.StatusForbidden, "origin_not_allowed")
				if got := w.metric(`reelay_refused_total{code="origin_not_allowed"}`); got != "1" {
					w.Errorf("%s refusals are counted, want 1", got)
				}
			}, func(w *world) { w.server.AllowedOrigins = c.allowed })
		})
	}
}

func TestHandshake_Subprotocol(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lines, want string }{
		"offered":              {"Authorization: Bearer GOOD\r\nSec-WebSocket-Protocol: reelay.v1", "reelay.v1"},
		"among others":         {"Authorization: Bearer GOOD\r\nSec-WebSocket-Protocol: x, reelay.v1 ,y", "reelay.v1"},
		"beside the token":     {"Sec-WebSocket-Protocol: reelay.v1, reelay.bearer.GOOD", "reelay.v1"},
		"after the token":      {"Sec-WebSocket-Protocol: reelay.bearer.GOOD, reelay.v1", "reelay.v1"},
		"on a line of its own": {"Sec-WebSocket-Protocol: reelay.bearer.GOOD\r\nSec-WebSocket-Protocol: reelay.v1", "reelay.v1"},
		"not offered":          {"Authorization: Bearer GOOD", ""},
		"empty":                {"Authorization: Bearer GOOD\r\nSec-WebSocket-Protocol:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				token := w.token("alice")
				a := w.send(upgradeRequest("/events", strings.ReplaceAll(c.lines, "GOOD", token)))
				if a.StatusCode != http.StatusSwitchingProtocols {
					w.Fatalf("got %s\n%s\nwant 101", a.Status, a.body)
				}
				if got := strings.Join(a.Header.Values("Sec-WebSocket-Protocol"), "|"); got != c.want {
					w.Errorf("the server chose %q, want %q", got, c.want)
				}
				for name, values := range a.Header {
					if strings.Contains(strings.Join(values, ","), token) {
						w.Errorf("the header %s of the answer holds the token", name)
					}
				}
			})
		})
	}
}

func TestHandshake_LogUnavailable(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*world){
		"at once":       func(w *world) { w.log.fail(errAway) },
		"for long":      func(w *world) { w.log.fail(errAway); pass(20 * time.Second) },
		"not answering": func(w *world) { w.log.hang() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.mayErr = true
				breaks(w)
				_, refusal := w.try(handshake{user: "alice"})
				if refusal == nil {
					w.Fatal("a client was let in")
				}
				refusal.problem(w.T, http.StatusServiceUnavailable, "unavailable")
				if got := refusal.Header.Get("Retry-After"); got != "2" {
					w.Errorf("got Retry-After %q, want 2", got)
				}
				w.dial(handshake{user: "alice", origin: page}).closed(1013, "unavailable")
				c := w.dial(handshake{origin: page})
				c.auth(w.token("alice"))
				c.closed(1013, "unavailable")
			})
		})
	}
}

func TestHandshake_HubEnded(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		_, refusal := w.try(handshake{user: "alice"})
		if refusal == nil {
			w.Fatal("a client was let in")
		}
		refusal.problem(w.T, http.StatusServiceUnavailable, "restart")
	}, func(w *world) { w.hubIsDead = true })
}

func TestHandshake_Panic(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.mayErr = true
		cookie := w.secret("cookie-with-secret")
		header := http.Header{"Cookie": {cookie}}
		_, refusal := w.try(handshake{user: "alice", header: header, query: "video=" + w.secret("secret-video")})
		if refusal == nil {
			w.Fatal("a client was let in")
		}
		refusal.problem(w.T, http.StatusInternalServerError, "internal")

		c := w.dial(handshake{origin: page, header: header})
		c.auth(w.token("alice"))
		c.closed(1011, "internal")
		synctest.Wait()
		if got := w.metric("reelay_panics_total"); got != "2" {
			w.Errorf("%s panics are counted, want 2", got)
		}
		if got := w.metric("reelay_connections"); got != "0" {
			w.Errorf("%s connections are counted, want 0", got)
		}
		if !strings.Contains(w.logged.String(), "panicking.Verify") {
			w.Errorf("the log does not say where:\n%s", w.logged)
		}
	}, func(w *world) { w.server.Verifier = panicking{} })
}
