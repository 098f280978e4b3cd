package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// preface2 is what a client of HTTP/2 begins with, and an empty frame of settings (RFC 9113, sections 3.4 and 6.5).
const preface2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// headers2 begins a request: a frame of GET http://reelay.test/ in HPACK, with some flags beside END_STREAM.
func headers2(flags byte) string {
	const block = "\x82\x86\x84\x41\x0breelay.test"
	return string([]byte{0, 0, byte(len(block)), 1, 1 | flags, 0, 0, 0, 1}) + block
}

const endHeaders2 = 4

// TestAttack_HeadersThatDoNotEnd sends the beginning of a request, and then nothing or little: the connection is cut
// after five seconds, whatever it speaks, and counted unless it said nothing at all.
func TestAttack_HeadersThatDoNotEnd(t *testing.T) {
	t.Parallel()
	whole := preface2 + headers2(endHeaders2)
	for name, c := range map[string]struct {
		sent    string
		trickle string // sent a byte a second
		counted string
	}{
		"nothing":                           {"", "", "0"},
		"HTTP/1.1, a line":                  {"GET /events HTTP/1.1\r\n", "", "1"},
		"HTTP/1.1, byte by byte":            {"GET /events HTTP/1.1\r\nX: ", strings.Repeat("x", 100), "1"},
		"HTTP/2, the preface":               {preface2, "", "1"},
		"HTTP/2, half a frame":              {whole[:len(whole)-3], "", "1"},
		"HTTP/2, headers without their end": {preface2 + headers2(0), "", "1"},
		"HTTP/2, byte by byte":              {preface2 + headers2(0), strings.Repeat("\x00\x00\x00\x09\x00\x00\x00\x00\x01", 20), "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				conn, err := w.dialer(w.Context(), "", "")
				if err != nil {
					w.Fatalf("connect: %v", err)
				}
				start, written := time.Now(), make(chan struct{})
				go func() {
					defer close(written)
					_, _ = io.WriteString(conn, c.sent)
					for _, b := range []byte(c.trickle) {
						if _, err := conn.Write([]byte{b}); err != nil {
							return
						}
						<-time.After(time.Second)
					}
				}()
				w.untilClosed(conn)
				if took := time.Since(start); took != 5*time.Second {
					w.Errorf("it was cut after %v, want 5 s", took)
				}
				<-written
				pass(time.Second)
				if got := w.metric(`reelay_limited_total{limit="headers"}`); got != c.counted {
					w.Errorf("it was counted %s times, want %s", got, c.counted)
				}
				w.healthy()
			})
		})
	}
}

// untilClosed reads until the server has closed a connection, for ten minutes at the most.
func (w *world) untilClosed(conn net.Conn) {
	w.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		w.Fatalf("set a deadline: %v", err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		w.Errorf("the connection was not closed: %v", err)
	}
	conn.Close()
}

// A connection that has brought a request may rest between two of them.
func TestAttack_HeadersThatDoNotEndAreNotARest(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		dials := 0
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			return w.dialer(ctx, network, address)
		}}
		defer transport.CloseIdleConnections()
		for range 3 {
			r, err := http.NewRequestWithContext(w.Context(), http.MethodGet, "http://reelay.test/events", nil)
			if err != nil {
				w.Fatalf("make a request: %v", err)
			}
			r.Header.Set("Authorization", "Bearer "+w.token("alice"))
			response, err := transport.RoundTrip(r)
			if err != nil {
				w.Fatalf("ask for a page: %v", err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
				w.Errorf("got %s by %s, and %v", response.Status, response.Proto, err)
			}
			response.Body.Close()
			pass(20 * time.Second)
		}
		if dials != 1 {
			w.Errorf("it took %d connections, want 1", dials)
		}
	})
}
