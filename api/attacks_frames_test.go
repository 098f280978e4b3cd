package api_test

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// TestAttack_HugeFramesTakeNoMemory announces frames of a terabyte, and sends what the server takes of them.
//
//nolint:paralleltest // what others allocate meanwhile would count
func TestAttack_HugeFramesTakeNoMemory(t *testing.T) {
	const clients, sent, most = 10, 4 << 20, 4 << 20 // bytes of each, and of the server for all
	chunk := make([]byte, 64<<10)
	for name, begin := range map[string][]byte{
		"in one frame": head(final|text, masked, 1<<40),
		"in fragments": join(raw(text, masked, make([]byte, 12<<10)), head(continuation, masked, 1<<40)),
		"in a binary":  head(final|bin, masked, 1<<40),
	} {
		t.Run(name, func(t *testing.T) {
			onTCP(t, func(w *world) {
				sockets := make([]*rawSocket, clients)
				for i := range sockets {
					sockets[i] = w.dialRaw("alice")
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for _, s := range sockets {
					s.write(begin)
					for range sent / len(chunk) {
						s.write(chunk)
					}
					s.expect("close 1009 frame_too_big")
				}
				runtime.ReadMemStats(&after)
				if took := after.TotalAlloc - before.TotalAlloc; took > most {
					w.Errorf("%d bytes were allocated for %d that were sent, want %d at most", took, clients*sent, most)
				}
				for _, s := range sockets {
					s.Close()
				}
			})
		})
	}
}

// TestAttack_FloodsHurtNobodyElse floods the server by several clients, in every way that a client may send, and looks
// after one who does nothing of the kind.
func TestAttack_FloodsHurtNobodyElse(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string][]byte{
		"messages":       raw(final|text, masked, aPing),
		"broken JSON":    raw(final|text, masked, []byte(strings.Repeat("[", 8<<10))),
		"subscriptions":  raw(final|text, masked, []byte(`{"type":"subscribe","videos":["a","b"]}`)),
		"tokens":         raw(final|text, masked, []byte(`{"type":"auth","token":"x.y.z"}`)),
		"pings":          raw(final|ping, masked, []byte("x")),
		"pongs":          raw(final|pong, masked, []byte("x")),
		"empty messages": raw(final|text, masked, nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				quiet := w.live("bob")
				for range 5 {
					s := w.dialRaw("alice")
					go func() {
						for range 2000 {
							s.write(sent)
						}
					}()
					w.publish(updated("bob", "v", `{}`))
					quiet.next("video.updated")
					last := ""
					for said := range s.came {
						last = said
					}
					// Frames in error end a connection sooner.
					if last != "close 1013 rate_limited" && last != "close 1008 invalid_frame" && last != "close 1008 invalid_token" {
						w.Errorf("it ended with %s", last)
					}
				}
				if asked := len(w.log.asked()); asked > 5*41 {
					w.Errorf("the database was asked %d times, want 40 for each connection", asked)
				}
				quiet.silent()
				w.healthy()
			})
		})
	}
}

// TestAttack_Panic has a bug in what every request needs: each is answered, the process lives, and neither log nor answer
// holds what the request came with. The world looks through the log for it.
func TestAttack_Panic(t *testing.T) {
	t.Parallel()
	byEvery(t, func(w *world, by asking) {
		w.mayErr = true
		cookie, video := w.secret("a-cookie-with-secrets"), w.secret("a-video-with-secrets")
		for n, text := range []string{
			by.request("/events?video="+video, "Authorization: Bearer "+w.token("alice"), "Cookie: other="+cookie),
			by.request("/events?access_token="+w.token("alice"), "Cookie: other="+cookie),
			request("POST /tickets?video="+video+" HTTP/1.1", "Content-Length: 0", "Authorization: Bearer "+w.token("alice"), "Cookie: other="+cookie),
		} {
			a := w.ask(text)
			a.problem(w.T, http.StatusInternalServerError, "internal")
			w.checkAnswer(a)
			synctest.Wait()
			if got, want := w.metric("reelay_panics_total"), string(rune('1'+n)); got != want {
				w.Errorf("%s panics are counted, want %s", got, want)
			}
		}
		for _, gauge := range []string{"reelay_sessions", "reelay_connections"} {
			if got := w.metric(gauge); got != "0" {
				w.Errorf("%s is %s, want 0", gauge, got)
			}
		}
		w.ask(request("GET /nothing HTTP/1.1")).problem(w.T, http.StatusNotFound, "not_found")
	}, func(w *world) { w.server.Verifier, w.server.TokenInURL = panicking{}, true })
}
