package api_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reelay/reelay/api"
)

// taking is a limit of connections, and who has reached it.
type taking struct {
	limit  func(*api.Limits)
	metric string
	proxy  string // what the proxy says of a client who has not reached it; empty: nobody is left
	user   string // who has not reached it
}

var takings = map[string]taking{
	"of a user":    {func(l *api.Limits) { l.ConnectionsPerUser = 2 }, "connections_per_user", "203.0.113.1", "bob"},
	"of an IP":     {func(l *api.Limits) { l.ConnectionsPerIP = 2 }, "connections_per_ip", "203.0.113.2", "alice"},
	"of a replica": {func(l *api.Limits) { l.Connections = 2 }, "connections", "", ""},
}

// TestAttack_TooManyConnections holds as many as there may be, on real sockets, and asks for one more: each client is told
// in the way it can understand, others are served, and there is room again when one leaves.
func TestAttack_TooManyConnections(t *testing.T) {
	t.Parallel()
	for name, c := range takings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTCP(t, func(w *world) {
				who := []string{"X-Forwarded-For: 203.0.113.1", "Authorization: Bearer " + w.token("alice")}
				held := []net.Conn{w.take(askings[0], who...), w.take(askings[1], who...)}
				defer func() { held[1].Close() }()

				for _, by := range []asking{askings[0], askings[2]} {
					a := w.send(by.request("/events", who...))
					a.problem(w.T, http.StatusTooManyRequests, "rate_limited")
					if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || after < 1 {
						w.Errorf("got Retry-After %q", a.Header.Get("Retry-After"))
					}
				}
				w.streamIsBrokenOff("rate_limited", who...)
				w.browse(who...).closed(1013, "rate_limited")
				if got := w.metric(`reelay_limited_total{limit="` + c.metric + `"}`); got != "4" {
					w.Errorf("the limit was reached %s times, by its metric; want 4", got)
				}
				if c.user != "" {
					w.take(askings[0], "X-Forwarded-For: "+c.proxy, "Authorization: Bearer "+w.token(c.user)).Close()
				}
				held[0].Close()
				w.eventually("there is room again", func() bool {
					return w.send(askings[2].request("/events", who...)).StatusCode == http.StatusOK
				})
			}, limited(c.limit), func(w *world) { w.server.TrustedProxies = []string{"127.0.0.0/8"} })
		})
	}
}

// take connects in some way, and holds on to it.
func (w *world) take(by asking, lines ...string) net.Conn {
	w.Helper()
	conn, err := w.dialer(w.Context(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	if _, err := io.WriteString(conn, by.request("/events", lines...)); err != nil {
		w.Fatalf("ask: %v", err)
	}
	// Not as a response, whose body has to be closed, which waits for its end: that of a stream never comes.
	status, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(status, "HTTP/1.1 101 ") && !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		w.Fatalf("got %q and %v", status, err)
	}
	return conn
}

var retryFirst = regexp.MustCompile(`^retry: ([1-9][0-9]{2,4})\ndata: \{`)

// streamIsBrokenOff asks for a stream, and checks that it says why it cannot be had now and when to come back, and then
// breaks off: an EventSource never comes back after any status but 200, and some take an end for the end of all.
func (w *world) streamIsBrokenOff(code string, lines ...string) {
	w.Helper()
	conn, err := w.dialer(w.Context(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, askings[1].request("/events", lines...)); err != nil {
		w.Fatalf("ask for a stream: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.Fatalf("read an answer: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		w.Fatalf("got %s, %s", response.Status, response.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(response.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		w.Errorf("the stream ended with %v, want it broken off", err)
	}
	found := retryFirst.FindStringSubmatch(string(body))
	if found == nil || !strings.Contains(string(body), `"code":"`+code+`"`) || !strings.HasSuffix(string(body), "\n\n") {
		w.Fatalf("got %q, want when to come back, and %s", body, code)
	}
}

// eventually waits for something that has to come, in real time.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestAttack_RetryHasJitter compares when clients that were refused at one moment are asked to come back.
func TestAttack_RetryHasJitter(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		waits := make(map[string]int)
		for range 20 {
			a := w.ask(askings[1].request("/events", "Authorization: Bearer "+w.token("alice")))
			found := retryFirst.FindStringSubmatch(a.body)
			if found == nil {
				w.Fatalf("got %s %q", a.Status, a.body)
			}
			waits[found[1]]++
		}
		if len(waits) < 10 {
			w.Errorf("20 clients were asked to wait for %v ms", waits)
		}
	}, limited(func(l *api.Limits) { l.Connections = 0 }))
}

// TestAttack_TooFast asks faster than a user may.
func TestAttack_TooFast(t *testing.T) {
	t.Parallel()
	for target, what := range map[string]string{"/events": "GET", "/tickets": "POST"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				text := request(what+" "+target+" HTTP/1.1", "Authorization: Bearer "+w.token("alice"), "Content-Length: 0")
				if good, refused := w.flood(text); good != 20 || w.metric(`reelay_limited_total{limit="connect_rate_per_user"}`) != strconv.Itoa(refused) {
					w.Errorf("%d got through and %d did not, want 20 at once", good, refused)
				}
				pass(time.Second)
				if good, _ := w.flood(text); good != 10 {
					w.Errorf("%d got through a second later, want 10", good)
				}
				w.healthy()
			}, limited(func(l *api.Limits) { l.ConnectRatePerUser = 10; l.ConnectionsPerUser = 20 }))
		})
	}
}

// TestAttack_TooFastFromOneIP has somebody try one bad token after another.
func TestAttack_TooFastFromOneIP(t *testing.T) {
	t.Parallel()
	onTCP(t, func(w *world) {
		start := time.Now()
		good, refused := w.flood(askings[2].request("/events", "X-Forwarded-For: 203.0.113.1", "Authorization: Bearer x.y.z"))
		if most := 3 + int(time.Since(start).Seconds()) + 1; good < 3 || good > most {
			w.Errorf("%d tokens were looked at, want 3 to %d", good, most)
		}
		if got := w.metric(`reelay_limited_total{limit="connect_rate_per_ip"}`); got != strconv.Itoa(refused) {
			w.Errorf("the limit was reached %s times, by its metric; want %d", got, refused)
		}
		w.take(askings[0], "X-Forwarded-For: 203.0.113.2", "Authorization: Bearer "+w.token("alice")).Close()
	}, limited(func(l *api.Limits) { l.ConnectRatePerIP = 1 }), func(w *world) { w.server.TrustedProxies = []string{"127.0.0.0/8"} })
}

// flood sends a request a hundred times, and counts who is refused for it.
func (w *world) flood(text string) (good, refused int) {
	w.Helper()
	for range 100 {
		a := w.send(text)
		if a.StatusCode != http.StatusTooManyRequests {
			good++
			continue
		}
		a.problem(w.T, http.StatusTooManyRequests, "rate_limited")
		refused++
	}
	return good, refused
}
