package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/reelay/reelay/api/client"
)

// errEnough is what a test's handler returns to end Run.
var errEnough = errors.New("enough")

// until is a handler that notes the ids of frames and ends Run at the frame called last.
func until(last string, seen *[]string) func(context.Context, client.Frame) error {
	return func(_ context.Context, frame client.Frame) error {
		*seen = append(*seen, frame.ID)
		if frame.ID == last {
			return errEnough
		}
		return nil
	}
}

func ignore(context.Context, client.Frame) error { return nil }

func newClient(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c, err := client.New(config)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	c.WithoutJitter()
	return c
}

func expectQuery(v *visit, want string) {
	if got := v.query.Encode(); got != want {
		v.t.Errorf("query: got %q, want %q", got, want)
	}
}

func TestClient_SaysWhatItWants(t *testing.T) {
	t.Parallel()
	scripts := []script{func(v *visit) {
		if v.path != "/events" {
			v.t.Errorf("path: got %q, want /events", v.path)
		}
		if got := v.header.Get("Authorization"); got != "Bearer token-1" {
			v.t.Errorf("Authorization: got %q, want the token", got)
		}
		if got := v.header.Get("X-Trace"); got != "7" {
			v.t.Errorf("X-Trace: got %q, want the header of Config", got)
		}
		expectQuery(v, "after=c.7&video=vid_1&video=a%26b")
		v.ready()
		v.send(event("c.8", "vid_1"))
		if code := v.drain(); code != 1000 {
			v.t.Errorf("client ended with %d, want 1000", code)
		}
	}}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		config := g.config()
		config.Videos = []string{"vid_1", "a&b"}
		config.After = "c.7"
		config.Header = map[string][]string{"X-Trace": {"7"}}
		var frames []client.Frame
		err := newClient(t, config).Run(t.Context(), func(_ context.Context, frame client.Frame) error {
			frames = append(frames, frame)
			if len(frames) == 2 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Fatalf("Run: got %v, want the handler's error", err)
		}
		got := frames[1]
		if !frames[0].Own() || got.Own() {
			t.Errorf("Own: got %v for reelay.ready and %v for an event", frames[0].Own(), got.Own())
		}
		if got.Type != "video.updated" || got.Subject != "vid_1" || got.Source != "reelay" || got.Time.IsZero() {
			t.Errorf("frame: got %+v", got)
		}
		if string(got.Raw) != event("c.8", "vid_1") {
			t.Errorf("Raw: got %s", got.Raw)
		}
		var data struct {
			Status string `json:"processing_status"`
		}
		if err := got.Decode(&data); err != nil || data.Status != "ready" {
			t.Errorf("Decode: got %+v, %v", data, err)
		}
	})
}

func TestClient_ResumesBehindTheLastFrameThatWasHandled(t *testing.T) {
	t.Parallel()
	scripts := []script{
		func(v *visit) {
			expectQuery(v, "")
			v.ready()
			v.send(`{"id":"x1","source":"reelay/session","type":"reelay.snapshot","cursor":"c.3","data":{"videos":[],"last":true}}`)
			v.close(1012, "restart")
		},
		func(v *visit) {
			expectQuery(v, "after=c.3")
			v.ready()
			v.send(event("c.4", "vid_1"), event("c.5", "vid_1"))
			v.send(`{"id":"x2","source":"reelay/session","type":"reelay.pong"}`) // moves nothing
			v.close(1012, "restart")
		},
		func(v *visit) {
			expectQuery(v, "after=c.5")
			v.ready()
			v.send(event("c.6", "vid_1"))
			v.drain() // the handler refuses c.6
		},
		func(v *visit) {
			expectQuery(v, "after=c.5")
			v.ready()
			v.send(event("c.6", "vid_1"))
			v.drain()
		},
	}
	inBubble(t, scripts, func(t *testing.T, g *gateway) {
		c := newClient(t, g.config())
		for run := range 2 {
			var seen []string
			if err := c.Run(t.Context(), until("c.6", &seen)); !errors.Is(err, errEnough) {
				t.Fatalf("Run: got %v, want the handler's error", err)
			}
			if c.Cursor() != "c.5" {
				t.Errorf("run %d: cursor is %q, want c.5: the handler refused c.6", run+1, c.Cursor())
			}
			want := [][]string{{"s1", "x1", "s1", "c.4", "c.5", "x2", "s1", "c.6"}, {"s1", "c.6"}}[run]
			if !slices.Equal(seen, want) {
				t.Errorf("run %d: handled %v, want %v", run+1, seen, want)
			}
		}
	})
}

func TestClient_MovesTheCursorOnlyWithFramesThatHaveOne(t *testing.T) {
	t.Parallel()
	own := func(kind, rest string) string {
		return `{"id":"own","source":"reelay/session","type":"` + kind + `"` + rest + `}`
	}
	for _, test := range []struct{ name, frame, want string }{
		{"event", event("c.9", "v"), "c.9"},
		{"application's own event", `{"id":"c.9","source":"reelay","type":"comment.added"}`, "c.9"},
		{"snapshot page that is not the last", own("reelay.snapshot", `,"data":{"last":false}`), "c.1"},
		{"snapshot's last page", own("reelay.snapshot", `,"cursor":"c.5","data":{"last":true}`), "c.5"},
		{"reset with cursor", own("reelay.reset", `,"cursor":"d.0"`), "d.0"},
		{"reset without", own("reelay.reset", ``), "c.1"},
		{"error", own("reelay.error", ``), "c.1"},
		{"own frame of a type to come", own("reelay.later", ``), "c.1"},
		{"own frame by its source alone", `{"id":"own","source":"reelay/session","type":"news"}`, "c.1"},
		{"own frame by its type alone", `{"id":"own","source":"reelay","type":"reelay.news"}`, "c.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			scripts := []script{func(v *visit) { v.ready(); v.send(test.frame, event("end", "v")); v.drain() }}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				config.After = "c.1"
				c := newClient(t, config)
				var seen []string
				if err := c.Run(t.Context(), until("end", &seen)); !errors.Is(err, errEnough) {
					t.Fatalf("Run: %v", err)
				}
				if got := c.Cursor(); got != test.want {
					t.Errorf("cursor: got %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestClient_AsksAgainForASnapshotThatWasCutOff(t *testing.T) {
	t.Parallel()
	page := func(cursor, last string) string {
		return `{"id":"p","source":"reelay/session","type":"reelay.snapshot"` + cursor + `,"data":{"videos":[],"last":` + last + `}}`
	}
	reset := `{"id":"r","source":"reelay/session","type":"reelay.reset","cursor":"d.4","data":{"reason":"other_log"}}`
	yes, no := true, false
	for _, test := range []struct {
		name     string
		after    string
		snapshot *bool
		frames   []string
		queries  [2]string
	}{
		{"nothing said, no cursor", "", nil, nil, [2]string{"", ""}},
		{"nothing said, cursor", "c.1", nil, nil, [2]string{"after=c.1", "after=c.1"}},
		{"none wanted", "", &no, nil, [2]string{"snapshot=0", "snapshot=0"}},
		{"none wanted, then an event", "", &no, []string{event("c.2", "v")}, [2]string{"snapshot=0", "after=c.2"}},
		{"wanted beside a cursor, cut off", "c.1", &yes, []string{page("", "false")}, [2]string{"after=c.1&snapshot=1", "after=c.1&snapshot=1"}},
		{"wanted beside a cursor, whole", "c.1", &yes, []string{page(`,"cursor":"c.3"`, "true")}, [2]string{"after=c.1&snapshot=1", "after=c.3"}},
		{"reset, cut off", "c.1", nil, []string{reset, page("", "false")}, [2]string{"after=c.1", "after=d.4&snapshot=1"}},
		{"reset where none was wanted", "c.1", &no, []string{reset}, [2]string{"after=c.1", "after=d.4&snapshot=1"}},
		{"events between the pages", "", nil, []string{page("", "false"), event("c.2", "v")}, [2]string{"", "after=c.2&snapshot=1"}},
		{"reset, whole", "c.1", nil, []string{reset, page(`,"cursor":"d.5"`, "true")}, [2]string{"after=c.1", "after=d.5"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			scripts := []script{
				func(v *visit) { expectQuery(v, test.queries[0]); v.ready(); v.send(test.frames...); v.close(1012, "") },
				func(v *visit) { expectQuery(v, test.queries[1]); v.ready(); v.close(3003, "") },
			}
			inBubble(t, scripts, func(t *testing.T, g *gateway) {
				config := g.config()
				config.After, config.Snapshot = test.after, test.snapshot
				var closed *client.CloseError
				if err := newClient(t, config).Run(t.Context(), ignore); !errors.As(err, &closed) {
					t.Errorf("Run: got %v, want the close of the second connection", err)
				}
			})
		})
	}
}

func TestNew_ChecksTheURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, want string }{
		{"", "not of the form"},
		{"gateway:8080", "not of the form"},
		{"ftp://gateway", `scheme "ftp"`},
		{"http://alice:hunter2@gateway", "a user name has no place"},
		{"http://gateway:hunter2", "not of the form"},
		{"http://gateway/events?after=c.1", "after= belongs in Config"},
		{"http://gateway?video=1", "video= belongs in Config"},
	} {
		_, err := client.New(client.Config{URL: test.url})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New(%q): got %v, want an error with %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%q): the error repeats the password: %v", test.url, err)
		}
	}
}

func TestClient_FindsEvents(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://gateway.test":                   "/events",
		"ws://gateway.test/":                    "/events",
		"http://gateway.test/events":            "/events",
		"http://gateway.test/events/":           "/events",
		"http://gateway.test/base":              "/base/events",
		"http://gateway.test/base?tenant=7#top": "/base/events",
	} {
		scripts := []script{func(v *visit) {
			if v.path != want {
				t.Errorf("%s: the client asked for %s, want %s", url, v.path, want)
			}
			if wantTenant := strings.Contains(url, "tenant"); wantTenant != v.query.Has("tenant") {
				t.Errorf("%s: query is %s", url, v.query.Encode())
			}
			v.answer(403, "")
		}}
		inBubble(t, scripts, func(t *testing.T, g *gateway) {
			config := g.config()
			config.URL = url
			var answered *client.HTTPError
			if err := newClient(t, config).Run(t.Context(), ignore); !errors.As(err, &answered) {
				t.Errorf("Run: got %v, want HTTP 403", err)
			}
		})
	}
}
