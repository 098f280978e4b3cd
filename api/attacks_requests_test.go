package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/api"
)

// TestAttack_Requests has requests that no client of ours makes, beside a good token: each is answered by a problem, or by
// net/http where it cannot be read at all, and the token gets in nowhere.
func TestAttack_Requests(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 17<<10)
	replace := func(old, replacement string) func(string) string {
		return func(request string) string { return strings.Replace(request, old, replacement, 1) }
	}
	for name, c := range map[string]struct {
		change func(string) string
		only   string // a way; empty: all
		status int
		code   string // empty: net/http answers
	}{
		"POST":                      {replace("GET", "POST"), "", 405, "method_not_allowed"},
		"HEAD":                      {replace("GET", "HEAD"), "", 405, ""},
		"TRACE":                     {replace("GET", "TRACE"), "", 405, "method_not_allowed"},
		"CONNECT":                   {replace("GET /events", "CONNECT reelay.test:80"), "", 404, "not_found"},
		"a method nobody knows":     {replace("GET", "SUBSCRIBE"), "", 405, "method_not_allowed"},
		"a method of odd letters":   {replace("GET", "G(T"), "", 400, ""},
		"a body":                    {replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n{}"), "", 400, "unexpected_body"},
		"a body in chunks":          {replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), "", 400, "unexpected_body"},
		"two lengths":               {replace("\r\n\r\n", "\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n"), "", 400, ""},
		"a length and chunks":       {replace("\r\n\r\n", "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "", 400, "unexpected_body"},
		"a length of nonsense":      {replace("\r\n\r\n", "\r\nContent-Length: -1\r\n\r\n"), "", 400, ""},
		"an encoding nobody knows":  {replace("\r\n\r\n", "\r\nTransfer-Encoding: gzip\r\n\r\n"), "", 501, ""},
		"headers over 16 KiB":       {replace("\r\n\r\n", "\r\nX-Filler: "+big+"\r\n\r\n"), "", 431, ""},
		"a path over 16 KiB":        {replace("/events", "/events/"+big), "", 431, ""},
		"no host":                   {replace("Host: reelay.test\r\n", ""), "", 400, ""},
		"two hosts":                 {replace("Host: reelay.test\r\n", "Host: reelay.test\r\nHost: evil.example\r\n"), "", 400, ""},
		"a folded header":           {replace("\r\n\r\n", "\r\nX: a\r\n b\r\n\r\n"), "socket", 101, ""}, // one header of two words (RFC 9112, section 5.2)
		"a header with NUL":         {replace("\r\n\r\n", "\r\nX: a\x00b\r\n\r\n"), "", 400, ""},
		"a name with a space":       {replace("\r\n\r\n", "\r\nX : a\r\n\r\n"), "", 400, ""},
		"HTTP/1.0":                  {replace("HTTP/1.1", "HTTP/1.0"), "socket", 400, "invalid_handshake"},
		"HTTP/1.0 for a stream":     {replace("HTTP/1.1", "HTTP/1.0"), "stream", 505, "http_version_not_supported"},
		"HTTP/3.0":                  {replace("HTTP/1.1", "HTTP/3.0"), "", 505, ""},
		"version 8":                 {replace("Version: 13", "Version: 8"), "socket", 426, "upgrade_required"},
		"no version":                {replace("Sec-WebSocket-Version: 13\r\n", ""), "socket", 426, "upgrade_required"},
		"no key":                    {replace("Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n", ""), "socket", 400, "invalid_handshake"},
		"a key of 15 bytes":         {replace("AQIDBAUGBwgJCgsMDQ4PEA==", "AQIDBAUGBwgJCgsMDQ4P"), "socket", 400, "invalid_handshake"},
		"an upgrade lost on a way":  {replace("Upgrade: websocket\r\n", ""), "socket", 426, "upgrade_required"},
		"no connection to upgrade":  {replace("Connection: Upgrade\r\n", ""), "socket", 426, "upgrade_required"},
		"subprotocols nobody knows": {replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n"), "socket", 400, "unknown_subprotocol"},
		"elsewhere":                 {replace("/events", "/event"), "", 404, "not_found"},
		"in capitals":               {replace("/events", "/EVENTS"), "", 404, "not_found"},
		"by two slashes":            {replace("/events", "//events"), "", 404, "not_found"},
		"by dots":                   {replace("/events", "/x/../events"), "", 404, "not_found"},
		"one level up":              {replace("/events", "/../../etc/passwd"), "", 404, "not_found"},
		"the page to come after it": {replace("/events", "/events%2f"), "", 404, "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			byEvery(t, func(w *world, by asking) {
				if c.only != "" && c.only != by.name {
					return
				}
				a := w.ask(c.change(by.request("/events", "Authorization: Bearer "+w.token("alice"))))
				w.checkAnswer(a)
				if c.code != "" {
					a.problem(w.T, c.status, c.code)
				} else if a.StatusCode != c.status {
					w.Errorf("got %s\n%s\nwant %d", a.Status, a.body, c.status)
				}
				w.healthy()
			})
		})
	}
}

// TestAttack_AdminOnThePublicPort looks for what is for the people who run it, under every name it might have.
func TestAttack_AdminOnThePublicPort(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for _, path := range []string{
			"/metrics", "/metrics/", "//metrics", "/metrics?x=1", "/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline",
			"/debug/pprof/profile?seconds=1", "/debug/vars", "/readyz", "/healthz", "/", "/events/../metrics", "/%6detrics", "/events/%2e%2e/metrics", "/.env", "/.git/config",
		} {
			for _, line := range []string{"X-Forwarded-For: 127.0.0.1", "X-Original-URL: /metrics", "Authorization: Bearer " + w.token("alice"), "Host: 127.0.0.1:9090"} {
				first := "GET " + path + " HTTP/1.1"
				text := request(first, line)
				if strings.HasPrefix(line, "Host") {
					text = first + "\r\n" + line + "\r\n\r\n"
				}
				a := w.ask(text)
				a.problem(w.T, http.StatusNotFound, "not_found")
			}
		}
		w.healthy()
	})
}

// TestAttack_CompressionIsDeclined offers to deflate messages, which could blow up when they are inflated: it is not
// taken up, and a message that is deflated all the same ends the connection.
func TestAttack_CompressionIsDeclined(t *testing.T) {
	t.Parallel()
	for _, offer := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits; server_no_context_takeover", "x-webkit-deflate-frame",
		"permessage-deflate; server_max_window_bits=10, permessage-deflate", "permessage-bzip2",
	} {
		t.Run(offer, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				other, client := w.live("bob"), w.dialRaw("alice", "Sec-WebSocket-Extensions: "+offer)
				if got := client.header.Values("Sec-WebSocket-Extensions"); len(got) > 0 {
					w.Errorf("the server takes up %q", got)
				}
				// A megabyte of zeros, deflated.
				client.write(raw(final|text|reserved1, masked, []byte("\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08\x0a\x00")))
				client.expect(broken)
				pass(3 * time.Second)
				other.send(string(aPing))
				other.next("reelay.pong")
				w.healthy()
			})
		})
	}
}

// TestAttack_ForwardedForIsNotBelieved has clients claim to be somebody else, where no proxy is trusted and where
// one is: what they say themselves never counts.
func TestAttack_ForwardedForIsNotBelieved(t *testing.T) {
	t.Parallel()
	one := limited(func(l *api.Limits) { l.ConnectionsPerIP = 1 })
	for name, c := range map[string]struct {
		proxies []string
		first   []string
		second  []string
		status  int
	}{
		"a proxy's word":                     {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 203.0.113.1"}, []string{"X-Forwarded-For: 203.0.113.1"}, 429},
		"two clients of a proxy":             {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 203.0.113.1"}, []string{"X-Forwarded-For: 203.0.113.2"}, 101},
		"what the client put before":         {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 203.0.113.1"}, []string{"X-Forwarded-For: 198.51.100.1, 203.0.113.1"}, 429},
		"another header":                     {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 203.0.113.1"}, []string{"X-Forwarded-For: 203.0.113.1", "X-Real-IP: 198.51.100.1", "Forwarded: for=198.51.100.1", "CF-Connecting-IP: 198.51.100.1"}, 429},
		"another of a subscriber's networks": {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 2001:db8:1:2::1"}, []string{"X-Forwarded-For: 2001:db8:1:2:ffff::9"}, 429},
		"another subscriber":                 {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 2001:db8:1:2::1"}, []string{"X-Forwarded-For: 2001:db8:1:3::1"}, 101},
		"the same, spelt otherwise":          {[]string{"127.0.0.0/8"}, []string{"X-Forwarded-For: 203.0.113.1"}, []string{"X-Forwarded-For: ::ffff:203.0.113.1"}, 429},
		"a peer that nobody trusts":          {[]string{"192.0.2.1"}, []string{"X-Forwarded-For: 203.0.113.1"}, []string{"X-Forwarded-For: 203.0.113.2"}, 429},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTCP(t, func(w *world) {
				conn := w.holdWith(c.first...)
				defer conn.Close()
				a := w.send(upgradeRequest("/events", append(c.second, "Authorization: Bearer "+w.token("alice"))...))
				if a.StatusCode != c.status {
					w.Errorf("got %s, want %d", a.Status, c.status)
				}
			}, one, func(w *world) { w.server.TrustedProxies = c.proxies })
		})
	}
}
