package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// page asks for a page of alice's.
func (w *world) page(query string, header ...string) (jsonPage, *answer) {
	w.Helper()
	h := handshake{user: "alice", header: make(http.Header)}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		h.header.Add(name, value)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		w.Fatalf("the query: %v", err)
	}
	cursor, a, err := w.poll(context.Background(), h, values)
	if err != nil {
		w.Fatalf("ask for a page: %v", err)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		w.Errorf("got Cache-Control %q, want no-store", got)
	}
	var p jsonPage
	switch a.StatusCode {
	case http.StatusOK:
		unmarshal(w.T, []byte(a.body), &p)
		if got := a.Header.Get("Content-Type"); got != "application/json" || p.Cursor != cursor {
			w.Errorf("got %s with cursor %s, and %s in the header", got, p.Cursor, cursor)
		}
	case http.StatusNoContent, http.StatusNotModified:
		if a.body != "" {
			w.Errorf("%s has a body: %s", a.Status, a.body)
		}
	default:
		return p, a
	}
	if got := a.Header.Get("ETag"); cursor == "" || got != `"`+cursor+`"` {
		w.Errorf("got ETag %s and cursor %q", got, cursor)
	}
	return p, a
}

// TestPage_Walk takes 10,000 events by sevens: each comes once, and more is true until the last has come.
func TestPage_Walk(t *testing.T) {
	t.Parallel()
	for query, events := range map[string]int{"": 10_000, "&video=v": 1000, "&conflate=1": 1000} {
		inWorld(t, func(w *world) {
			w.log.row("alice", "v", `{}`)
			for n := range events {
				video := "v"
				if query == "&conflate=1" {
					video = fmt.Sprint(n)
				}
				w.log.append(updated("alice", video, `{}`))
			}
			cursor, seen := "k3f9a2bq.0", 0
			for more := true; more; {
				p, a := w.page("limit=7&after=" + cursor + query)
				if a.StatusCode != http.StatusOK || len(p.Events) == 0 || len(p.Events) > 7 {
					w.Fatalf("after %s: %s with %d events\n%s", cursor, a.Status, len(p.Events), a.body)
				}
				for _, event := range p.Events {
					if seen++; parse(event).ID != fmt.Sprintf("k3f9a2bq.%d", seen) {
						w.Fatalf("got %s, want event %d", event, seen)
					}
				}
				cursor, more = p.Cursor, *p.More
				if more != (seen < events) {
					w.Fatalf("at event %d of %d, more is %v", seen, events, more)
				}
			}
		})
	}
}

func TestPage_FirstOfAll(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		_, a := w.page("wait=60")
		if want := `{"events":[],"cursor":"k3f9a2bq.0","more":false,"reset":false,"snapshot":[]}`; a.body != want {
			w.Errorf("got %s, want %s", a.body, want)
		}
		w.log.row("alice", "a", `{"n":1}`)
		w.log.truncate()
		w.publish(updated("alice", "a", `{}`))
		p, _ := w.page("")
		if string(p.Snapshot) != `[{"id":"a","n":1}]` || !p.Truncated {
			w.Errorf("got snapshot %s, truncated %v", p.Snapshot, p.Truncated)
		}
		if p, _ = w.page("snapshot=0"); string(p.Snapshot) != "null" || p.Cursor != "k3f9a2bq.1" || len(p.Events) > 0 {
			w.Errorf("got %+v, want the cursor of this moment", p)
		}
		if p, _ = w.page("snapshot=1&after=k3f9a2bq.0"); string(p.Snapshot) == "null" || len(p.Events) > 0 || *p.Reset {
			w.Errorf("got %+v, want the snapshot alone", p)
		}
	})
}

func TestPage_NothingNew(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.publish(updated("alice", "v", `{}`), updated("alice", "v", `{}`))
		for _, c := range []struct {
			query, ifNoneMatch string
			status             int
		}{
			{"after=k3f9a2bq.2", ``, 204},
			{"after=k3f9a2bq.2", `"k3f9a2bq.1"`, 204},
			{"after=k3f9a2bq.2", `"k3f9a2bq.2"`, 304},
			{"after=k3f9a2bq.2", `"x", W/"k3f9a2bq.2"`, 304},
			{"after=k3f9a2bq.2", `*`, 304},
			{"after=k3f9a2bq.1", `"k3f9a2bq.2"`, 304},
			{"after=k3f9a2bq.1", `"k3f9a2bq.1"`, 200},
			{"after=k3f9a2bq.1", `k3f9a2bq.2`, 200},
			{"", `"k3f9a2bq.2"`, 304},
			{"", `"k3f9a2bq.1"`, 200},
			{"snapshot=0", `"k3f9a2bq.2"`, 304},
			{"after=k3f9a2bq.0&limit=1", `"k3f9a2bq.1"`, 200}, // there is more now
			{"after=other.2", `"k3f9a2bq.2"`, 200},            // a reset has to be told
			{"after=k3f9a2bq.2&video=nowhere", ``, 204},
		} {
			lines := []string{"If-None-Match: " + c.ifNoneMatch}
			if c.ifNoneMatch == "" {
				lines = nil
			}
			if _, a := w.page(c.query, lines...); a.StatusCode != c.status {
				w.Errorf("%s with If-None-Match: %s: got %s, want %d\n%s", c.query, c.ifNoneMatch, a.Status, c.status, a.body)
			}
		}
	})
}

// TestPage_FilterMovesTheCursor has events that a filter leaves out: they are not looked at again.
func TestPage_FilterMovesTheCursor(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("alice", "a", `{}`)
		for range 500 {
			w.publish(updated("alice", "b", `{}`))
		}
		_, a := w.page("video=a&after=k3f9a2bq.0")
		if got := a.Header.Get("Reelay-Cursor"); a.StatusCode != http.StatusNoContent || got != "k3f9a2bq.500" {
			w.Errorf("got %s with cursor %s, want 204 with the last one", a.Status, got)
		}
	})
}

func TestPage_Waits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		query   string
		happens func(*world) // after 20 s
		status  int
		took    time.Duration
		body    string
	}{
		"nothing":                {"after=k3f9a2bq.0&wait=45", func(*world) {}, 204, 45 * time.Second, ""},
		"an event":               {"after=k3f9a2bq.0&wait=45", func(w *world) { w.publish(updated("alice", "v", `{}`)) }, 200, 20 * time.Second, `"id":"k3f9a2bq.1"`},
		"an event from now on":   {"snapshot=0&wait=45", func(w *world) { w.publish(updated("alice", "v", `{}`)) }, 200, 20 * time.Second, `"id":"k3f9a2bq.1"`},
		"no event from now on":   {"snapshot=0&wait=45", func(*world) {}, 200, 45 * time.Second, `"events":[],"cursor":"k3f9a2bq.0"`},
		"another's event":        {"after=k3f9a2bq.0&wait=45", func(w *world) { w.publish(updated("bob", "v", `{}`)) }, 204, 45 * time.Second, ""},
		"one the filter has":     {"video=v&after=k3f9a2bq.0&wait=45", func(w *world) { w.publish(updated("alice", "x", `{}`), updated("alice", "v", `{}`)) }, 200, 20 * time.Second, `"id":"k3f9a2bq.2"`},
		"one the filter lacks":   {"video=v&after=k3f9a2bq.0&wait=45", func(w *world) { w.publish(updated("alice", "x", `{}`)) }, 204, 45 * time.Second, ""},
		"another log":            {"after=k3f9a2bq.0&wait=45", func(w *world) { w.log.rename("other"); w.publish(updated("bob", "v", `{}`)) }, 200, 20 * time.Second, `"reset":true,"reason":"other_log"`},
		"the server goes away":   {"after=k3f9a2bq.0&wait=45", func(w *world) { w.drain() }, 204, 20 * time.Second, ""},
		"it goes, from now on":   {"snapshot=0&wait=45", func(w *world) { w.drain() }, 200, 20 * time.Second, `"cursor":"k3f9a2bq.0"`},
		"a snapshot waits not":   {"wait=45", func(*world) {}, 200, 0, `"snapshot":[`},
		"what there is, at once": {"after=k3f9a2bq.0&wait=45&limit=3", nil, 200, 0, `"more":true`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.log.row("alice", "v", `{}`)
				if c.happens == nil {
					for range 5 {
						w.publish(updated("alice", "v", `{}`))
					}
				}
				start := time.Now()
				var happening sync.WaitGroup
				if c.happens != nil && c.took > 0 {
					happening.Go(func() { pass(20 * time.Second); c.happens(w) })
				}
				_, a := w.page(c.query)
				if took := time.Since(start).Truncate(time.Second); a.StatusCode != c.status || took != c.took || !strings.Contains(a.body, c.body) {
					w.Errorf("got %s after %v, want %d after %v with %s\n%s", a.Status, took, c.status, c.took, c.body, a.body)
				}
				happening.Wait()
			})
		})
	}
}

// TestPage_OfLargeEvents bounds a page in bytes, too.
func TestPage_OfLargeEvents(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for range 5 {
			w.publish(updated("alice", "v", `{"text":"`+strings.Repeat("x", 600<<10)+`"}`))
		}
		p, _ := w.page("after=k3f9a2bq.0")
		if len(p.Events) != 2 || !*p.More || p.Cursor != "k3f9a2bq.2" {
			w.Errorf("got %d events, more %v, cursor %s; want the two that go over a megabyte", len(p.Events), *p.More, p.Cursor)
		}
		if p, _ = w.page("after=k3f9a2bq.4"); len(p.Events) != 1 || *p.More {
			w.Errorf("got %d events, more %v; want the last", len(p.Events), *p.More)
		}
	})
}

// TestPage_NobodyReadsIt has a client that takes nothing of its page.
func TestPage_NobodyReadsIt(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.publish(updated("alice", "v", `{"text":"`+strings.Repeat("x", 600<<10)+`"}`))
		conn, err := w.dialer(context.Background(), "", "")
		if err != nil {
			w.Fatalf("connect: %v", err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, request("GET /events?after=k3f9a2bq.0 HTTP/1.1", "Authorization: Bearer "+w.token("alice"))); err != nil {
			w.Fatalf("send a request: %v", err)
		}
		synctest.Wait()
		if got := w.metric("reelay_polls"); got != "1" {
			w.Fatalf("%s pages are being answered, want 1", got)
		}
		pass(10 * time.Second)
		if got := w.metric("reelay_polls"); got != "0" {
			w.Errorf("%s pages are being answered after 10 s", got)
		}
	})
}

// TestPage_LogGoesAway has the log go when there is more to be read of it.
func TestPage_LogGoesAway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.mayErr = true
		for range 1000 {
			w.log.append(updated("alice", "v", `{}`))
		}
		p, _ := w.page("after=k3f9a2bq.0&limit=1000")
		if len(p.Events) != 1000 || *p.More {
			w.Errorf("got %d events, more %v; want all", len(p.Events), *p.More)
		}
		w.log.hang()
		start := time.Now()
		_, a := w.page("after=k3f9a2bq.5")
		a.problem(w.T, http.StatusServiceUnavailable, "unavailable")
		if took := time.Since(start); took > 10*time.Second {
			w.Errorf("it took %v to say so", took)
		}
	})
}

func TestPage_OtherMethods(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
		inWorld(t, func(w *world) {
			conn, err := w.dialer(context.Background(), "", "")
			if err != nil {
				w.Fatalf("connect: %v", err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request(method+" /events HTTP/1.1", "Authorization: Bearer "+w.token("alice"))); err != nil {
				w.Fatalf("send a request: %v", err)
			}
			response, err := http.ReadResponse(newReader(conn), &http.Request{Method: method})
			if err != nil {
				w.Fatalf("read an answer: %v", err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET" {
				w.Errorf("%s: got %s, Allow %q; want 405 and GET", method, response.Status, response.Header.Get("Allow"))
			}
		})
	}
}

// TestPage_NothingLostInBetween polls while events are published, with polls that end at any moment.
func TestPage_NothingLostInBetween(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		const events = 2000
		var publishing sync.WaitGroup
		publishing.Go(func() {
			for n := range events {
				w.publish(updated("alice", "v", `{}`))
				<-time.After(time.Duration(n%23) * time.Millisecond)
			}
		})
		cursor, seen := "k3f9a2bq.0", 0
		for n := 0; seen < events; n++ {
			p, a := w.page(fmt.Sprintf("after=%s&wait=%d&limit=%d", cursor, n%2, 1+n%5))
			for _, event := range p.Events {
				if seen++; parse(event).ID != fmt.Sprintf("k3f9a2bq.%d", seen) {
					w.Fatalf("got %s, want event %d", event, seen)
				}
			}
			cursor = a.Header.Get("Reelay-Cursor")
		}
		publishing.Wait()
	})
}
