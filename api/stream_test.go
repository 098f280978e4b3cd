package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/api"
)

func TestStream_WhoGetsOne(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"text/event-stream":                               true,
		"Text/Event-Stream;charset=utf-8":                 true,
		"text/event-stream;q=0.1":                         true,
		"text/event-stream;q=0":                           false,
		"text/event-stream;q=0.000, */*":                  false,
		"text/event-stream, */*":                          true,
		"*/*, text/event-stream":                          true,
		"text/event-stream, application/json":             true,
		"text/event-stream;q=0.9, application/json":       false,
		"text/event-stream;q=0.5, application/json;q=0.4": true,
		"application/json;q=0, */*":                       true,
		"text/*":                                          true,
		"text/*, text/event-stream;q=0":                   false,
		"*/*":                                             false,
		"":                                                false,
		"application/json":                                false,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": false,
		"text/event-stream;q=2": false,
		"text/event-stream;q=x": false,
		"text/event-streams":    false,
		";;;,text/event-stream": true,
	} {
		if got := api.PrefersStream([]string{accept}); got != want {
			t.Errorf("Accept: %s: got %v, want %v", accept, got, want)
		}
	}
	if !api.PrefersStream([]string{"application/json;q=0.5", "text/event-stream"}) {
		t.Error("a second line counts as the first")
	}
}

// TestStream_AnyFrame has frames of any bytes read back by an EventSource: none makes an event more, or one less.
func TestStream_AnyFrame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
			"\n", "\r", "\r\n", "\n\n", "data:", "id: x", ":", " ", "event: x\n", "retry: 1\n", "\u2028", "\x00", "\xff", "{}", "x",
		}), 0, 20)
		frames := rapid.SliceOfN(rapid.Map(pieces, func(some []string) []byte { return []byte("{" + strings.Join(some, "") + "}") }), 1, 5).Draw(t, "frames")
		var got []streamed
		if err := readStream(bytes.NewReader(api.AppendStreamed(frames...)), func(e streamed) { got = append(got, e) }); !errors.Is(err, io.EOF) {
			t.Fatalf("read it: %v", err)
		}
		if len(got) != len(frames) {
			t.Fatalf("%d frames became %d events", len(frames), len(got))
		}
		for n, e := range got {
			want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(frames[n]))
			if e.data != want || e.id != fmt.Sprint("log.", n) || e.event != "" {
				t.Errorf("frame %q became %+v", frames[n], e)
			}
		}
	})
}

// raw opens an event stream over HTTP/1.1, and returns what is below HTTP.
func (w *world) rawStream(lines ...string) (net.Conn, *bufio.Reader) {
	w.Helper()
	conn, err := w.dialer(context.Background(), "", "")
	if err != nil {
		w.Fatalf("connect: %v", err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request("GET /events?snapshot=0 HTTP/1.1", append(lines, "Accept: text/event-stream")...)); err != nil {
		w.Fatalf("send a request: %v", err)
	}
	return conn, bufio.NewReader(conn)
}

// readHead reads the head of an answer.
func (w *world) readHead(reader *bufio.Reader) http.Header {
	w.Helper()
	header := make(http.Header)
	for first := true; ; first = false {
		line, err := reader.ReadString('\n')
		switch {
		case err != nil:
			w.Fatalf("read the head: %v", err)
		case line == "\r\n":
			return header
		case first && line != "HTTP/1.1 200 OK\r\n":
			w.Fatalf("got %q, want 200", line)
		case !first:
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			header.Add(name, value)
		}
	}
}

// readChunk reads a chunk, and returns an error where there is none.
func readChunk(reader *bufio.Reader) (string, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	size, err := strconv.ParseUint(strings.TrimSpace(line), 16, 32)
	if err != nil {
		return "", err
	}
	chunk := make([]byte, size+2)
	if _, err := io.ReadFull(reader, chunk); err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(chunk), "\r\n"), nil
}

// TestStream_OnTheWire looks at the bytes: what asks to come back, signs of life, and an end that is none.
func TestStream_OnTheWire(t *testing.T) {
	t.Parallel()
	retries := make(chan string, 20)
	for range cap(retries) {
		inWorld(t, func(w *world) {
			_, reader := w.rawStream("Authorization: Bearer " + w.token("alice"))
			header := w.readHead(reader)
			if got := header.Get("Transfer-Encoding"); got != "chunked" {
				w.Errorf("got Transfer-Encoding %q", got)
			}
			retry, err := readChunk(reader)
			ms, found := strings.CutPrefix(retry, "retry: ")
			n, _ := strconv.Atoi(strings.TrimSuffix(ms, "\n"))
			if err != nil || !found || n < 1000 || n > 3000 {
				w.Fatalf("it begins with %q (%v), want retry: between 1000 and 3000 ms", retry, err)
			}
			retries <- ms
			ready, err := readChunk(reader)
			if err != nil || !strings.HasPrefix(ready, `data: {"specversion"`) || !strings.HasSuffix(ready, "}\nid: k3f9a2bq.0\n\n") {
				w.Fatalf("then comes %q (%v), want the frame ready with its cursor", ready, err)
			}
			start := time.Now()
			for n := range 5 {
				beat, err := readChunk(reader)
				if err != nil || beat != ":\n" || time.Since(start) != time.Duration(n+1)*25*time.Second {
					w.Fatalf("after %v comes %q (%v), want a sign of life every 25 s", time.Since(start), beat, err)
				}
			}
			w.drain()
			last, err := readChunk(reader)
			if err != nil || !strings.Contains(last, `"code":"restart"`) || strings.Contains(last, "\nid:") {
				w.Errorf("the last is %q (%v), want the error restart, and no id", last, err)
			}
			if rest, err := io.ReadAll(reader); len(rest) > 0 || err != nil {
				w.Errorf("after that comes %q (%v), want the connection cut: no last chunk", rest, err)
			}
		})
	}
	close(retries)
	different := make(map[string]bool)
	for ms := range retries {
		different[ms] = true
	}
	if len(different) < cap(retries)/2 {
		t.Errorf("clients are asked to come back at the same time: %v", different)
	}
}

func TestStream_LastEventID(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		query, id string
		resumed   bool
		first     int  // the first event; 0: none
		snapshot  bool // before it
	}{
		"alone":                       {"", "k3f9a2bq.3", true, 4, false},
		"newer than the URL":          {"after=k3f9a2bq.1", "k3f9a2bq.3", true, 4, false},
		"empty":                       {"after=k3f9a2bq.1", "", true, 2, false},
		"empty, without a cursor":     {"", "", false, 0, true},
		"with a snapshot asked for":   {"snapshot=1", "k3f9a2bq.3", true, 0, true},
		"with a snapshot not wanted":  {"snapshot=0", "k3f9a2bq.3", true, 4, false},
		"at the head":                 {"", "k3f9a2bq.5", true, 0, false},
		"snapshot=1 beside after=":    {"after=k3f9a2bq.1&snapshot=1", "k3f9a2bq.3", true, 0, true},
		"of another user, and future": {"", "k3f9a2bq.6", false, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, carrier := range carriers[1:3] {
				inWorld(t, func(w *world) {
					for range 5 {
						w.publish(updated("alice", "v", `{}`))
					}
					f := w.follow(carrier, handshake{user: "alice", query: c.query, header: http.Header{"Last-Event-Id": {c.id}}})
					f.ready(c.resumed)
					if c.snapshot {
						for f.next2("reelay.snapshot", "reelay.reset").Type == "reelay.reset" {
						}
					}
					if c.first > 0 {
						f.events(c.first-1, 6-c.first)
					}
					f.silent()
				})
			}
		})
	}
	for _, id := range []string{"1", "k3f9a2bq.-1", "k3f9a2bq.1 ", "0", strings.Repeat("x", 4<<10), "k3f9a2bq.1,k3f9a2bq.2"} {
		for _, carrier := range carriers[1:3] {
			inWorld(t, func(w *world) {
				_, refusal := carrier.open(w, handshake{user: "alice", header: http.Header{"Last-Event-Id": {id}}})
				if refusal == nil {
					if strings.TrimSpace(id) != id {
						return // HTTP takes the space off
					}
					w.Fatalf("a client with %.20q was let in", id)
				}
				refusal.problem(w.T, 400, "invalid_cursor")
			})
		}
	}
}

// TestStream_ComesBack has refusals that an EventSource must survive.
func TestStream_ComesBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header http.Header
		code   string
		breaks func(*world)
	}{
		"unavailable, to a page":             {http.Header{"Origin": {page}}, "unavailable", func(w *world) { w.log.fail(errAway) }},
		"unavailable, to a page of the host": {http.Header{"Sec-Fetch-Mode": {"cors"}}, "unavailable", func(w *world) { w.log.fail(errAway) }},
		"unavailable, to one who was here":   {http.Header{"Last-Event-Id": {"k3f9a2bq.0"}}, "unavailable", func(w *world) { w.log.fail(errAway); w.log.rename("other") }},
		"restart, to a page":                 {http.Header{"Origin": {page}}, "restart", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, carrier := range carriers[1:3] {
				inWorld(t, func(w *world) {
					w.mayErr = true
					if c.breaks != nil {
						c.breaks(w)
					}
					f := w.follow(carrier, handshake{user: "alice", header: c.header})
					if got := f.next("reelay.error").field("code"); got != c.code {
						w.Errorf("it is told %s, want %s", got, c.code)
					}
					f.ended(c.code)
				}, func(w *world) { w.hubIsDead = c.breaks == nil })
			}
		})
	}
}

func TestStream_OfHTTP10(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		good := "Authorization: Bearer " + w.token("alice")
		w.send(request("GET /events HTTP/1.0", good, "Accept: text/event-stream")).problem(w.T, 505, "http_version_not_supported")
		if a := w.send(request("GET /events HTTP/1.0", good)); a.StatusCode != http.StatusOK {
			w.Errorf("a page by HTTP/1.0: got %s\n%s", a.Status, a.body)
		}
	})
}

// TestStream_Curl follows events as one does by hand.
func TestStream_Curl(t *testing.T) {
	t.Parallel()
	onTCP(t, func(w *world) {
		url := "http://" + w.server.Listener.Addr().String() + "/events?snapshot=0"
		for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
			// The token goes by its standard input: others can read a program's arguments.
			curl := exec.CommandContext(t.Context(), "curl", "-sN", "--max-time", "30", version, "-H", "Accept: text/event-stream", "-H", "@-", url)
			curl.Stdin = strings.NewReader("Authorization: Bearer " + w.token("alice"))
			output, err := curl.StdoutPipe()
			if err != nil {
				w.Fatalf("curl: %v", err)
			}
			if err := curl.Start(); err != nil {
				w.Fatalf("curl: %v", err)
			}
			events := make(chan string, 10)
			go func() {
				defer close(events)
				_ = readStream(output, func(e streamed) { events <- parse([]byte(e.data)).Type + " " + e.id })
			}()
			got := <-events
			w.publish(updated("alice", "v", `{}`))
			if got += ", " + <-events; !strings.HasPrefix(got, "reelay.ready k3f9a2bq.") || !strings.Contains(got, "video.updated k3f9a2bq.") {
				w.Errorf("curl %s got %q", version, got)
			}
			_ = curl.Process.Kill()
			for range events {
			}
			_ = curl.Wait()
		}
	})
}

// TestStream_ClientThatTalks has a client that sends on, which none has a reason to.
func TestStream_ClientThatTalks(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		conn, reader := w.rawStream("Authorization: Bearer " + w.token("alice"))
		w.readHead(reader)
		go func() { _, _ = io.Copy(io.Discard, reader) }()
		sent := 0
		for ; sent < 100; sent++ {
			if _, err := conn.Write(make([]byte, 100)); err != nil {
				break
			}
		}
		if sent > 45 {
			w.Errorf("%d bytes were taken from a client that has nothing to say", sent*100)
		}
	})
}

// TestStream_BesideOthers has many streams on one connection of HTTP/2, as a proxy has: one that stalls holds up no other.
func TestStream_BesideOthers(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		dials := 0
		transport := &http.Transport{
			Protocols: protocols, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				return w.dialer(ctx, network, address)
			},
		}
		ctx, cancel := context.WithCancel(context.Background())
		w.Cleanup(func() { cancel(); transport.CloseIdleConnections() })
		connect := func() *follower {
			response, err := transport.RoundTrip(handshake{user: "alice", query: "snapshot=0"}.requestFor(ctx, w, "text/event-stream"))
			if err != nil {
				w.Fatalf("connect: %v", err)
			}
			f := streaming(w, response, func() { _ = response.Body.Close() })
			f.w, f.carrier = w, carriers[2]
			return f
		}
		stuck, reader := connect(), connect()
		go reader.read()
		reader.ready(false)
		data, _ := json.Marshal(strings.Repeat("x", 10<<10))
		for n := range 100 {
			w.publish(updated("alice", "v", `{"text":`+string(data)+`}`))
			reader.events(n, 1)
		}
		pass(10 * time.Second)
		if got := w.metric("reelay_connections"); got != "1" || dials != 1 {
			w.Errorf("there are %s streams on %d connections, want the one that reads on one", got, dials)
		}
		stuck.leave()
		w.publish(updated("alice", "v", `{}`))
		reader.events(100, 1)
		synctest.Wait()
	})
}
