package api_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asking is one way to ask for events: what it is called, and its request as text, with some lines more.
type asking struct {
	name    string
	request func(target string, lines ...string) string
}

// askings are all ways. The same attack gets the same answer, whichever it comes by.
var askings = []asking{
	{"socket", upgradeRequest},
	{"stream", func(target string, lines ...string) string {
		return request("GET "+target+" HTTP/1.1", append([]string{"Accept: text/event-stream"}, lines...)...)
	}},
	{"page", func(target string, lines ...string) string {
		return request("GET "+target+" HTTP/1.1", append([]string{"Accept: application/json"}, lines...)...)
	}},
}

// byEvery runs a test for each way to ask, in a world of its own.
func byEvery(t *testing.T, test func(*world, asking), prepare ...func(*world)) {
	t.Helper()
	for _, by := range askings {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) { test(w, by) }, prepare...)
		})
	}
}

// ask sends a request on a connection of its own, and returns what has come of the answer when it is complete, broken off,
// or has nothing more to say for now. In a bubble only.
func (w *world) ask(text string) (a answer) {
	w.Helper()
	w.exchange(text, func(conn net.Conn) {
		// From now on, not from when the answer begins: that is the same moment here.
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			w.Fatalf("set a deadline: %v", err)
		}
		var err error
		if a, err = w.readSome(conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !isDeadline(err) {
			w.Fatalf("read the body of an answer: %v", err)
		}
	})
	synctest.Wait()
	return a
}

func isDeadline(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}

// letIn checks that an answer is that to a client who gets events.
func (a answer) letIn(t *testing.T, by asking) {
	t.Helper()
	want := http.StatusOK
	if by.name == "socket" {
		want = http.StatusSwitchingProtocols
	}
	if a.StatusCode != want || strings.Contains(a.body, "reelay.error") {
		t.Errorf("got %s\n%s\nwant %d", a.Status, a.body, want)
	}
}

// healthy checks that the server serves others as if nothing had been, and that nothing is left of what was.
func (w *world) healthy() {
	w.Helper()
	synctest.Wait()
	before := w.metric("reelay_sessions")
	c := w.live("somebody else")
	w.publish(updated("somebody else", "v", `{}`))
	c.next("video.updated")
	hangUp(c)
	if got := w.metric("reelay_sessions"); got != before {
		w.Errorf("%s sessions are left, want %s as before", got, before)
	}
}
