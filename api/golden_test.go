package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

// anySession finds the name of a connection, which is random.
var anySession = regexp.MustCompile(`\b[A-Z2-7]{16}\b`)

// golden compares frames with those in testdata. The session's name is replaced.
func golden(t *testing.T, name string, frames ...frame) {
	t.Helper()
	var text strings.Builder
	for _, f := range frames {
		if !json.Valid([]byte(f.raw)) {
			t.Errorf("not JSON: %s", f.raw)
		}
		text.WriteString(anySession.ReplaceAllString(f.raw, "SESSION") + "\n")
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatalf("write a golden file: %v", err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read a golden file (make it with -update): %v", err)
	}
	if text.String() != string(want) {
		t.Errorf("%s differs (renew it with -update)\ngot:\n%s\nwant:\n%s", file, text.String(), want)
	}
}

func TestFrames_OfEvents(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.FixedZone("CET", 3600))
	kinds := []struct{ kind, subject, data string }{
		{"video.created", "vid_9", `{"processing_status": "queued"}`},
		{"video.updated", "vid_9", `{"processing_status": "ready", "previous": {"processing_status": "processing"}}`},
		{"video.deleted", "vid_9", ""},
		{"video.removed", "vid_9", ""},
		{"video.added", "vid_9", `{"processing_status": "ready"}`},
		{"comment.posted", "vid_9", `{"text": "an application's own"}`},
		{"video.updated", "a \"quoted\" \\ <b>key</b> & more", `{"title": "\"quotes\" \\ <b>html</b> & more"}`},
		{"video.updated", "new\nline", `{"text": "\n\ndata: {\"type\":\"video.deleted\"}\r\n\r\n"}`},
		{"video.updated", "line\u2028separator\u2029", "{\"text\": \"line\u2028separator\u2029\"}"},
		{"video.updated", "nul", `{"text": "before\u0000after"}`},
		{"video.updated", "vidéo 動画 🎬", `{"text": "vidéo 動画 🎬", "escaped": "\ud83c\udfac"}`},
		{"video.updated", "numbers", `{"big": 12345678901234567890, "small": 1e-300, "null": null, "list": [1, [2, {"a": {}}]]}`},
	}
	inWorld(t, func(w *world) {
		c := w.live("alice")
		var frames []frame
		for _, k := range kinds {
			event := &hub.Event{Owner: "alice", Type: k.kind, Subject: k.subject, Time: at}
			if k.data != "" {
				event.Data = json.RawMessage(k.data)
			}
			w.publish(event)
			f := c.next(k.kind)
			if f.Subject != k.subject {
				w.Errorf("%s: got subject %q, want %q", k.kind, f.Subject, k.subject)
			}
			if string(f.Data) != k.data {
				w.Errorf("%s: got data %s, want %s", k.kind, f.Data, k.data)
			}
			frames = append(frames, f)
		}
		golden(w.T, "events", frames...)
	})
}

func TestFrames_OfTheGateway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("alice", "vid_1", `{"processing_status": "ready"}`)
		w.log.row("alice", "vid_2", `{"processing_status": "queued", "id": 17}`)
		c := w.dial(handshake{token: w.tokenFor("alice", 70*time.Second)})
		frames := []frame{c.next("reelay.ready"), c.next("reelay.snapshot")}
		c.send(`{"type":"subscribe","videos":["vid_2","vid_3","vid_1","vid_3"],"ref":"s1"}`)
		frames = append(frames, c.next("reelay.subscribed"))
		c.send(`{"type":"unsubscribe","videos":["vid_1"],"ref":{"n":2}}`)
		frames = append(frames, c.next("reelay.subscribed"))
		c.send(`{"type":"ping","ref":7}`)
		c.send(`{"type":"ping"}`)
		frames = append(frames, c.next("reelay.pong"), c.next("reelay.pong"))
		c.send(`{"type":"dance","ref":"<&>"}`)
		frames = append(frames, c.next("reelay.error"))
		pass(10 * time.Second)
		frames = append(frames, c.next("reelay.expiring"))
		c.send(`{"type":"auth","token":"` + w.tokenFor("alice", time.Hour) + `","ref":"a1"}`)
		frames = append(frames, c.next("reelay.renewed"))
		w.log.rename("other")
		pass(20 * time.Second)
		frames = append(frames, c.next("reelay.reset"), c.next("reelay.snapshot"))
		golden(w.T, "gateway", frames...)
	}, func(w *world) { w.server.Replica = "replica-1" })
}

func TestFrames_FilterOfNone(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.dial(handshake{user: "alice", query: "video=nobodys&snapshot=0"})
		frames := []frame{c.next("reelay.ready"), c.next("reelay.subscribed")}
		d := w.live("alice")
		d.send(`{"type":"unsubscribe","videos":["vid_1"]}`)
		frames = append(frames, d.next("reelay.subscribed"))
		golden(w.T, "filters", frames...)
	})
}

func TestFrames_SnapshotInPages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows      int
		truncated bool
		pages     []int
	}{
		{0, false, []int{0}},
		{1, false, []int{1}},
		{100, false, []int{100}},
		{101, false, []int{100, 1}},
		{250, true, []int{100, 100, 50}},
	} {
		t.Run(fmt.Sprint(c.rows), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				for n := range c.rows {
					w.log.row("alice", fmt.Sprintf("vid_%03d", c.rows-n), `{}`)
				}
				if c.truncated {
					w.log.truncate()
				}
				client := w.dial(handshake{user: "alice"})
				client.next("reelay.ready")
				seen := 0
				for i, size := range c.pages {
					f := client.next("reelay.snapshot")
					var data struct {
						Videos          []struct{ ID string }
						Last, Truncated bool
					}
					if err := json.Unmarshal(f.Data, &data); err != nil {
						w.Fatalf("page %d: %v", i, err)
					}
					last := i == len(c.pages)-1
					if len(data.Videos) != size || data.Last != last || data.Truncated != (last && c.truncated) {
						w.Errorf("page %d: got %d videos, last %v, truncated %v", i, len(data.Videos), data.Last, data.Truncated)
					}
					if got, want := f.Cursor, map[bool]string{true: "k3f9a2bq.0"}[last]; got != want {
						w.Errorf("page %d: got cursor %q, want %q", i, got, want)
					}
					for _, v := range data.Videos {
						if seen++; v.ID != fmt.Sprintf("vid_%03d", seen) {
							w.Fatalf("video %d: got %s", seen, v.ID)
						}
					}
				}
				client.silent()
			})
		})
	}
}

// TestFrames_Cursor is about which frames of a beginning carry a cursor: what a client keeps is where it resumes.
func TestFrames_Cursor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query string
		want  []string // type, cursor
	}{
		{"", []string{"reelay.ready", "", "reelay.snapshot", "k3f9a2bq.3"}},
		{"snapshot=1", []string{"reelay.ready", "", "reelay.snapshot", "k3f9a2bq.3"}},
		{"snapshot=0", []string{"reelay.ready", "k3f9a2bq.3"}},
		{"after=k3f9a2bq.3", []string{"reelay.ready", "k3f9a2bq.3"}},
		{"after=k3f9a2bq.1", []string{"reelay.ready", "k3f9a2bq.1", "video.updated", "", "video.updated", ""}},
		{"after=k3f9a2bq.1&snapshot=1", []string{"reelay.ready", "", "reelay.snapshot", "k3f9a2bq.3"}},
		{"after=k3f9a2bq.9", []string{"reelay.ready", "", "reelay.reset", "", "reelay.snapshot", "k3f9a2bq.3"}},
		{"after=another.1&snapshot=0", []string{"reelay.ready", "", "reelay.reset", "", "reelay.snapshot", "k3f9a2bq.3"}},
		{"video=v&snapshot=0", []string{"reelay.ready", "k3f9a2bq.3", "reelay.subscribed", ""}},
		{"video=v", []string{"reelay.ready", "", "reelay.subscribed", "", "reelay.snapshot", "k3f9a2bq.3"}},
	} {
		t.Run(c.query, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.log.row("alice", "v", `{}`)
				for range 3 {
					w.publish(updated("alice", "v", `{}`))
				}
				client := w.dial(handshake{user: "alice", query: c.query})
				for i := 0; i < len(c.want); i += 2 {
					if f := client.next(c.want[i]); f.Cursor != c.want[i+1] {
						w.Errorf("%s: got cursor %q, want %q", f.Type, f.Cursor, c.want[i+1])
					}
				}
				client.silent()
			})
		})
	}
}

func TestFrames_OfOneMegabyte(t *testing.T) {
	t.Parallel()
	data := `{"text": "` + strings.Repeat(`x\n\ndata: `, 100_000) + `"}`
	check := func(w *world) {
		w.log.row("alice", "v", data)
		c := w.dial(handshake{user: "alice"})
		c.next("reelay.ready")
		var page struct{ Videos []struct{ Text, ID string } }
		if err := json.Unmarshal(c.next("reelay.snapshot").Data, &page); err != nil {
			w.Fatalf("the snapshot: %v", err)
		}
		if got := page.Videos[0]; got.ID != "v" || len(got.Text) != 900_000 {
			w.Errorf("the snapshot has video %q of %d bytes, want v of 900,000", got.ID, len(got.Text))
		}
		w.publish(updated("alice", "v", data), updated("alice", "v", `{}`))
		if f := c.next("video.updated"); string(f.Data) != data {
			w.Errorf("data of %d bytes came as %d other bytes", len(data), len(f.Data))
		}
		if f := c.next("video.updated"); string(f.Data) != `{}` {
			w.Errorf("the next event: got %.200s", f.Data)
		}
	}
	t.Run("in memory", func(t *testing.T) { t.Parallel(); inWorld(t, check) })
	t.Run("by TCP", func(t *testing.T) { t.Parallel(); onTCP(t, check) })
}

func TestFrames_EventIsEncodedOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var clients []*client
		for range 5 {
			clients = append(clients, w.live("alice"))
		}
		event := updated("alice", "v", `{}`)
		w.publish(event)
		var first frame
		for _, c := range clients {
			f := c.next("video.updated")
			if first.raw == "" {
				first = f
			}
			if f.raw != first.raw {
				w.Errorf("two clients got different frames:\n%s\n%s", first.raw, f.raw)
			}
		}
		// Who encodes an event in another way than by Frame, encodes it for each session.
		kept := event.Frame(hub.Cursor{}, func(*hub.Event, hub.Cursor) []byte { return []byte("never encoded") })
		if string(kept) != first.raw {
			w.Errorf("the event keeps the frame %s, want %s", kept, first.raw)
		}
	})
}

// TestFrames_NothingElse checks what a page could be misled by: the answer to an upgrade has no surprises.
func TestFrames_NothingElse(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.send(upgradeRequest("/events", "Authorization: Bearer "+w.token("alice"), "Sec-WebSocket-Extensions: permessage-deflate"))
		if a.StatusCode != http.StatusSwitchingProtocols {
			w.Fatalf("got %s\n%s", a.Status, a.body)
		}
		if got := a.Header.Get("Sec-WebSocket-Extensions"); got != "" {
			w.Errorf("the server agreed to the extension %q", got)
		}
		if got := a.Header.Get("Sec-WebSocket-Protocol"); got != "" {
			w.Errorf("the server chose the subprotocol %q, and none was offered", got)
		}
	})
}
