package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
)

func TestSession_Resumes(t *testing.T) {
	t.Parallel()
	for _, missed := range []int{0, 1, 63, 64, 65, 128, 129, 1000} {
		t.Run(fmt.Sprint(missed), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				first := w.live("alice")
				w.publish(updated("alice", "v", `{}`))
				cursor := first.next("video.updated").ID
				first.Close()
				for range missed {
					w.publish(updated("alice", "v", `{}`), updated("bob", "v", `{}`))
				}
				c := w.dial(handshake{user: "alice", query: after(cursor)})
				if f := c.next("reelay.ready"); f.field("resumed") != "true" || f.Cursor != cursor {
					w.Errorf("got %s, want it resumed at %s", f.raw, cursor)
				}
				for i := range missed {
					if got, want := c.next("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", i+2); got != want {
						w.Fatalf("got event %s, want %s", got, want)
					}
				}
				c.silent()
				w.publish(updated("alice", "v", `{}`))
				if got, want := c.next("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", missed+2); got != want {
					w.Errorf("got event %s, want %s", got, want)
				}
			})
		})
	}
}

// TestSession_ResumesByTheCursorOfAnyFrame follows the one rule a client has: keep the id of the last event, or the cursor
// of the last frame that has one.
func TestSession_ResumesByTheCursorOfAnyFrame(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"", "snapshot=0", "after=gone.1", "video=v"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.log.row("alice", "v", `{}`)
				w.publish(updated("alice", "v", `{}`))
				first := w.dial(handshake{user: "alice", query: query})
				w.publish(updated("alice", "v", `{}`)) // which the client does not get to read
				cursor := ""
				for cursor == "" {
					cursor = (<-first.frames).Cursor
				}
				first.Close()
				w.publish(updated("alice", "v", `{}`))
				c := w.dial(handshake{user: "alice", query: after(cursor)})
				if f := c.next("reelay.ready"); f.field("resumed") != "true" {
					w.Errorf("got %s, want it resumed", f.raw)
				}
				for i := range 2 {
					if got, want := c.next("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", i+2); got != want {
						w.Errorf("got event %s, want %s", got, want)
					}
				}
				c.silent()
			})
		})
	}
}

func TestSession_Reset(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cursor string
		reason hub.Reason
	}{
		"too old":              {"k3f9a2bq.3", hub.ReasonTooOld},
		"before the first":     {"k3f9a2bq.0", hub.ReasonTooOld},
		"from the future":      {"k3f9a2bq.11", hub.ReasonFuture},
		"far in the future":    {"k3f9a2bq.9223372036854775807", hub.ReasonFuture},
		"of another log":       {"zzz.7", hub.ReasonOtherLog},
		"of a log named alike": {"k3f9a2b.7", hub.ReasonOtherLog},
	} {
		for _, snapshot := range []string{"", "&snapshot=0", "&snapshot=1"} {
			t.Run(name+snapshot, func(t *testing.T) {
				t.Parallel()
				inWorld(t, func(w *world) {
					w.log.row("alice", "v", `{"n":10}`)
					for range 10 {
						w.publish(updated("alice", "v", `{}`))
					}
					w.log.trim("alice", 5)
					client := w.dial(handshake{user: "alice", query: after(c.cursor) + snapshot})
					if f := client.next("reelay.ready"); f.field("resumed") != "false" {
						w.Errorf("got %s, want it not resumed", f.raw)
					}
					if got := client.next("reelay.reset").field("reason"); got != string(c.reason) {
						w.Errorf("got reason %s, want %s", got, c.reason)
					}
					f := client.next("reelay.snapshot")
					if f.Cursor != "k3f9a2bq.10" || !strings.Contains(f.raw, `"n":10`) {
						w.Errorf("got %s, want the rows at k3f9a2bq.10", f.raw)
					}
					client.silent()
					w.publish(updated("alice", "v", `{}`))
					if got := client.next("video.updated").ID; got != "k3f9a2bq.11" {
						w.Errorf("got event %s, want k3f9a2bq.11", got)
					}
				})
			})
		}
	}
}

func TestSession_CursorMalformed(t *testing.T) {
	t.Parallel()
	cursors := []string{
		"", ".", "1", "k3f9a2bq", "k3f9a2bq.", ".5", "k3f9a2bq.-1", "k3f9a2bq.+1", "k3f9a2bq.01", "k3f9a2bq.1.2", "k3f9a2bq.1 ",
		" k3f9a2bq.1", "k3f9a2bq.9223372036854775808", "k3f9a2bq.18446744073709551616", "K3F9A2BQ.1", "k3f9a2bq.1\r\nX: y", "k3f9a2bq.\x00",
		"k3f9a2bq.１", "k3f9a2bq.1e3", "k3f9a2bq.0x1", "k3f9a2bq.1_0", "' OR 1=1", strings.Repeat("a", 33) + ".1", strings.Repeat("a", 4000),
	}
	inWorld(t, func(w *world) {
		for _, cursor := range cursors {
			_, refusal := w.try(handshake{user: "alice", query: after(cursor)})
			if refusal == nil {
				w.Errorf("the cursor %q was accepted", cursor)
				continue
			}
			refusal.problem(w.T, 400, "invalid_cursor")
			w.dial(handshake{user: "alice", origin: page, query: after(cursor)}).closed(1008, "invalid_cursor")
		}
	})
}

func TestSession_QueryInvalid(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("video=x&", 101)
	for _, query := range []string{
		"after=k3f9a2bq.1&after=k3f9a2bq.1", "snapshot=2", "snapshot=", "snapshot=true", "snapshot=0&snapshot=0", "conflate=yes",
		"video=", "video=" + strings.Repeat("x", 1025), many, "video=%00", "video=a%00b", "video=%ff", "after=%zz", "after=k3f9a2bq.1;x",
	} {
		t.Run(query[:min(len(query), 40)], func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				_, refusal := w.try(handshake{user: "alice", query: query})
				if refusal == nil {
					w.Fatal("it was accepted")
				}
				refusal.problem(w.T, 400, "invalid_parameter")
				w.dial(handshake{user: "alice", origin: page, query: query}).closed(1008, "invalid_parameter")
			})
		})
	}
}

func TestSession_QueryAtItsLimits(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var query strings.Builder
		query.WriteString("snapshot=0&unknown=parameter")
		for n := range 99 {
			fmt.Fprintf(&query, "&video=v%d", n)
		}
		query.WriteString("&video=" + strings.Repeat("x", 1024))
		c := w.dial(handshake{user: "alice", query: query.String()})
		c.next("reelay.ready")
		c.next("reelay.subscribed")
	})
}

// TestSession_OfAnotherUsersCursor has no way to see another's events: the cursor counts in one's own.
func TestSession_OfAnotherUsersCursor(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.publish(updated("alice", "v", `{"whose":"alice"}`))
		for range 5 {
			w.publish(updated("bob", "v", `{"whose":"bob"}`))
		}
		c := w.dial(handshake{user: "alice", query: after("k3f9a2bq.5")}) // bob's
		c.next("reelay.ready")
		c.next("reelay.reset")
		c.next("reelay.snapshot")
		d := w.dial(handshake{user: "alice", query: after("k3f9a2bq.0")})
		d.next("reelay.ready")
		if got := d.next("video.updated").field("whose"); got != "alice" {
			w.Errorf("got an event of %s", got)
		}
		d.silent()
	})
}

// TestSession_SnapshotThenEvents has events come while the snapshot is read: none is lost, and none comes twice.
func TestSession_SnapshotThenEvents(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := w.log.hold()
		c := w.dial(handshake{origin: page})
		c.auth(w.token("alice"))
		pass(time.Second)
		for range 3 {
			w.publish(updated("alice", "v", `{}`))
		}
		release()
		c.next("reelay.ready")
		if got := c.next("reelay.snapshot").Cursor; got != "k3f9a2bq.0" {
			w.Errorf("the snapshot is of %s, want k3f9a2bq.0", got)
		}
		for n := range 3 {
			if got, want := c.next("video.updated").ID, fmt.Sprintf("k3f9a2bq.%d", n+1); got != want {
				w.Errorf("got event %s, want %s", got, want)
			}
		}
		c.silent()
	})
}

// TestSession_LosesItsPlace has the log become another one under live sessions.
func TestSession_LosesItsPlace(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("alice", "v", `{}`)
		w.log.row("alice", "other", `{}`)
		all, some := w.live("alice"), w.dial(handshake{user: "alice", query: "snapshot=0&video=v"})
		some.next("reelay.ready")
		some.next("reelay.subscribed")
		w.publish(updated("alice", "v", `{}`))
		all.next("video.updated")
		some.next("video.updated")
		w.log.rename("other")
		pass(20 * time.Second)
		for c, want := range map[*client]int{all: 2, some: 1} {
			if got := c.next("reelay.reset").field("reason"); got != "other_log" {
				w.Errorf("got reason %s, want other_log", got)
			}
			f := c.next("reelay.snapshot")
			if got := strings.Count(f.raw, `"id":"`) - 1; f.Cursor != "other.0" || got != want {
				w.Errorf("got %s, want %d rows at other.0", f.raw, want)
			}
		}
		w.publish(updated("alice", "v", `{}`))
		for _, c := range []*client{all, some} {
			if got := c.next("video.updated").ID; got != "other.1" {
				w.Errorf("got event %s, want other.1", got)
			}
		}
	})
}

// TestSession_LosesItsPlaceWithNowhereToGo has the log unreadable when a session needs a new place in it.
func TestSession_LosesItsPlaceWithNowhereToGo(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.mayErr = true
		c := w.live("alice")
		w.log.hold() // for ever
		w.log.rename("other")
		pass(30 * time.Second)
		c.closed(1013, "unavailable")
	})
}

// Who is let in after the others were told, because nothing needed to be read, is told too.
func TestSession_LetInWhileTheLogAnswersNothingIsTold(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.mayErr = true
		c := w.live("alice")
		cursor := c.cursor(w)
		w.log.hang()
		pass(6 * time.Second)
		c.nextError("unavailable")
		late := w.dial(handshake{user: "alice", query: after(cursor)})
		late.next("reelay.ready")
		late.nextError("unavailable")
	})
}

func TestSession_IsToldWhenTheLogIsAway(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.mayErr = true
		c := w.live("alice")
		waiting := w.dial(handshake{origin: page})
		w.log.fail(errAway)
		pass(4 * time.Second)
		c.nextError("unavailable")
		w.log.append(updated("alice", "v", `{}`))
		w.log.fail(nil)
		pass(time.Second)
		// What was missed and the news that it can be read have no order between them.
		if f := <-c.frames; f.Type != "reelay.error" && f.Type != "video.updated" {
			w.Errorf("got %s", f.raw)
		}
		if f := <-c.frames; f.Type != "reelay.error" && f.Type != "video.updated" {
			w.Errorf("got %s", f.raw)
		}
		c.silent()
		waiting.closed(3008, "auth_timeout") // it has no session, and was told nothing
	})
}

func TestFilter_Query(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("alice", "a", `{}`)
		w.log.row("alice", "b", `{}`)
		w.log.row("alice", "c", `{}`)
		w.log.row("bob", "bobs", `{}`)
		c := w.dial(handshake{user: "alice", query: "video=a&video=bobs&video=b&video=none&video=a"})
		c.next("reelay.ready")
		if got := string(c.next("reelay.subscribed").Data); got != `{"videos":["a","b"],"unknown":["bobs","none"]}` {
			w.Errorf("subscribed to %s", got)
		}
		if f := c.next("reelay.snapshot"); strings.Contains(f.raw, `"id":"c"`) || !strings.Contains(f.raw, `"id":"a"`) || !strings.Contains(f.raw, `"id":"b"`) {
			w.Errorf("got %s, want a and b", f.raw)
		}
		w.publish(updated("alice", "c", `{}`), updated("bob", "bobs", `{}`), updated("bob", "a", `{}`), updated("alice", "b", `{}`))
		if f := c.next("video.updated"); f.Subject != "b" || f.ID != "k3f9a2bq.2" {
			w.Errorf("got %s, want the event of b", f.raw)
		}
		c.silent()
	})
}

func TestFilter_Subscribe(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for _, v := range []string{"a", "b", "c"} {
			w.log.row("alice", v, `{}`)
		}
		c := w.dial(handshake{user: "alice", query: "snapshot=0&video=a"})
		c.next("reelay.ready")
		c.next("reelay.subscribed")
		for _, step := range []struct{ send, answer, gets string }{
			{`{"type":"subscribe","videos":["b"]}`, `{"videos":["a","b"],"unknown":[]}`, "ab"},
			{`{"type":"subscribe","videos":["b","x"]}`, `{"videos":["a","b"],"unknown":["x"]}`, "ab"},
			{`{"type":"unsubscribe","videos":["a","x"]}`, `{"videos":["b"],"unknown":[]}`, "b"},
			{`{"type":"unsubscribe","videos":["b"]}`, `{"videos":[],"unknown":[]}`, ""},
			{`{"type":"subscribe","videos":["c","a"]}`, `{"videos":["a","c"],"unknown":[]}`, "ac"},
		} {
			c.send(step.send)
			if got := string(c.next("reelay.subscribed").Data); got != step.answer {
				w.Errorf("%s: got %s, want %s", step.send, got, step.answer)
			}
			for _, v := range []string{"a", "b", "c"} {
				w.publish(updated("alice", v, `{}`))
			}
			for _, v := range step.gets {
				if got := c.next("video.updated").Subject; got != string(v) {
					w.Errorf("after %s: got an event of %s, want %c", step.send, got, v)
				}
			}
			c.silent()
		}
	})
}

// TestFilter_ForeignAndUnknownAreAlike compares all that a client can see, and what is asked of the database.
func TestFilter_ForeignAndUnknownAreAlike(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("bob", "vid_9", `{}`)
		w.log.row("alice", "mine", `{}`)
		anyTime := strings.NewReplacer("vid_9", "X", "vid_8", "X")
		ask := func(video string) (answers []string, questions int) {
			w.log.asked()
			c := w.dial(handshake{user: "alice", query: "video=" + video})
			frames := []frame{c.next("reelay.ready"), c.next("reelay.subscribed"), c.next("reelay.snapshot")}
			d := w.dial(handshake{user: "alice", query: "video=mine&snapshot=0"})
			frames = append(frames, d.next("reelay.ready"), d.next("reelay.subscribed"))
			d.send(`{"type":"subscribe","videos":["` + video + `"],"ref":1}`)
			frames = append(frames, d.next("reelay.subscribed"))
			for _, f := range frames {
				answers = append(answers, anyTime.Replace(anySession.ReplaceAllString(f.raw, "SESSION")))
			}
			w.publish(updated("bob", video, `{}`))
			c.silent()
			d.silent()
			return answers, len(w.log.asked())
		}
		foreign, foreignQuestions := ask("vid_9")
		unknown, unknownQuestions := ask("vid_8")
		if fmt.Sprint(foreign) != fmt.Sprint(unknown) || foreignQuestions != unknownQuestions {
			w.Errorf("they differ:\n%d queries %s\n%d queries %s", foreignQuestions, foreign, unknownQuestions, unknown)
		}
	})
}

// TestFilter_LastEventsOfWhatIsGone resumes after a video of the filter was deleted: its last events come all the same.
func TestFilter_LastEventsOfWhatIsGone(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.log.row("alice", "v", `{}`)
		first := w.dial(handshake{user: "alice", query: "video=v"})
		first.next("reelay.ready")
		first.next("reelay.subscribed")
		cursor := first.next("reelay.snapshot").Cursor
		first.Close()
		w.log.drop("alice", "v")
		w.publish(updated("alice", "v", `{}`), updated("alice", "w", `{}`), &hub.Event{Owner: "alice", Type: "video.deleted", Subject: "v"})
		c := w.dial(handshake{user: "alice", query: "video=v&" + after(cursor)})
		c.next("reelay.ready")
		if got := string(c.next("reelay.subscribed").Data); got != `{"videos":[],"unknown":["v"]}` {
			w.Errorf("subscribed to %s", got)
		}
		c.next("video.updated")
		if got := c.next("video.deleted").Subject; got != "v" {
			w.Errorf("%s was deleted, want v", got)
		}
		c.silent()
	})
}

// TestFilter_RefusedSubscriptionLosesNothing has the database fail while a filter is changed.
func TestFilter_RefusedSubscriptionLosesNothing(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"snapshot=0", "snapshot=0&video=a"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.log.row("alice", "a", `{}`)
				w.log.row("alice", "b", `{}`)
				c := w.dial(handshake{user: "alice", query: query})
				c.next("reelay.ready")
				if strings.Contains(query, "video") {
					c.next("reelay.subscribed")
				}
				w.log.hold() // for ever
				c.send(`{"type":"subscribe","videos":["b"],"ref":"r"}`)
				pass(time.Second)
				w.publish(updated("alice", "a", `{}`))
				c.next("video.updated")
				pass(10 * time.Second)
				if f := c.nextError("unavailable"); f.field("ref") != "r" {
					w.Errorf("got %s, want ref r", f.raw)
				}
				w.publish(updated("alice", "a", `{}`))
				c.next("video.updated")
			})
		})
	}
}

func TestFilter_TooMany(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var query strings.Builder
		for n := range 100 {
			w.log.row("alice", fmt.Sprint(n), `{}`)
			fmt.Fprintf(&query, "video=%d&", n)
		}
		w.log.row("alice", "one more", `{}`)
		c := w.dial(handshake{user: "alice", query: query.String() + "snapshot=0"})
		c.next("reelay.ready")
		c.next("reelay.subscribed")
		c.send(`{"type":"subscribe","videos":["one more"],"ref":1}`)
		c.nextError("too_many_videos")
		c.send(`{"type":"unsubscribe","videos":["0"]}`)
		c.next("reelay.subscribed")
		c.send(`{"type":"subscribe","videos":["one more"]}`)
		c.next("reelay.subscribed")
		w.publish(updated("alice", "0", `{}`), updated("alice", "one more", `{}`))
		if got := c.next("video.updated").Subject; got != "one more" {
			w.Errorf("got an event of %s, want one more", got)
		}
	})
}

// TestFilter_IDsThatPostgresRefuses: one of them would fail a query that asks for other users too.
func TestFilter_IDsThatPostgresRefuses(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.live("alice")
		for _, id := range []string{`\u0000`, `a\u0000b`, ``, strings.Repeat("x", 1025)} {
			c.send(`{"type":"subscribe","videos":["` + id + `"]}`)
			c.nextError("invalid_video")
		}
		if asked := w.log.asked(); len(asked) > 0 {
			w.Errorf("the database was asked for %q", asked)
		}
	})
}

func TestSession_Conflates(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for n := range 300 {
			w.publish(updated("alice", fmt.Sprint("v", n%3), fmt.Sprintf(`{"n":%d}`, n)))
		}
		c := w.dial(handshake{user: "alice", query: "conflate=1&" + after("k3f9a2bq.0")})
		c.next("reelay.ready")
		for n := 297; n < 300; n++ {
			if got := c.next("video.updated").field("n"); got != fmt.Sprint(n) {
				w.Errorf("got event %s, want %d", got, n)
			}
		}
		c.silent()
	})
}

// TestSession_Isolation has many users, odd filters and one log.
func TestSession_Isolation(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		clients := make(map[string]*client)
		for _, user := range []string{"alice", "bob", "carol"} {
			for _, query := range []string{"snapshot=0", "snapshot=0&" + after("k3f9a2bq.0"), "snapshot=0&video=" + url.QueryEscape(user)} {
				w.log.row(hub.Owner(user), user, `{}`)
				c := w.dial(handshake{user: user, query: query})
				c.next("reelay.ready")
				if strings.Contains(query, "video") {
					c.next("reelay.subscribed")
				}
				clients[user+query] = c
			}
		}
		for range 50 {
			for _, user := range []string{"alice", "bob", "carol"} {
				w.publish(updated(hub.Owner(user), user, `{"whose":"`+user+`"}`))
			}
		}
		for name, c := range clients {
			for n := range 50 {
				f := c.next("video.updated")
				if !strings.HasPrefix(name, f.field("whose")) || f.ID != fmt.Sprintf("k3f9a2bq.%d", n+1) {
					w.Fatalf("%s got %s", name, f.raw)
				}
			}
			c.silent()
		}
	})
}
