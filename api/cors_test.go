package api_test

import (
	"io"
	"net/http"
	"testing"
)

func TestCORS(t *testing.T) {
	t.Parallel()
	const preflight = "Access-Control-Request-Method: GET"
	for name, c := range map[string]struct {
		request string
		status  int
		allow   string // Access-Control-Allow-Origin
	}{
		"preflight of an allowed origin": {request("OPTIONS /events HTTP/1.1", "Origin: https://app.example.com", preflight), 204, "https://app.example.com"},
		"preflight for a ticket":         {request("OPTIONS /tickets HTTP/1.1", "Origin: https://app.example.com", "Access-Control-Request-Method: POST"), 204, "https://app.example.com"},
		"preflight of another's":         {request("OPTIONS /events HTTP/1.1", "Origin: https://evil.example", preflight), 403, ""},
		"preflight of a sandboxed page":  {request("OPTIONS /events HTTP/1.1", "Origin: null", preflight), 403, ""},
		"no preflight":                   {request("OPTIONS /events HTTP/1.1", "Origin: https://app.example.com"), 405, "https://app.example.com"},
		"no page":                        {request("OPTIONS /events HTTP/1.1", preflight), 405, ""},
		"a refusal can be read":          {request("POST /tickets HTTP/1.1", "Content-Length: 0", "Origin: https://app.example.com"), 401, "https://app.example.com"},
		"but not by others":              {request("POST /tickets HTTP/1.1", "Content-Length: 0", "Origin: https://evil.example"), 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				a := w.send(c.request)
				if got := a.Header.Get("Access-Control-Allow-Origin"); a.StatusCode != c.status || got != c.allow {
					w.Errorf("got %s and Allow-Origin %q, want %d and %q", a.Status, got, c.status, c.allow)
				}
				credentials := ""
				if c.allow != "" {
					credentials = "true"
				}
				if got := a.Header.Get("Access-Control-Allow-Credentials"); got != credentials {
					w.Errorf("got Allow-Credentials %q, want %q", got, credentials)
				}
			}, withCookie)
		})
	}
}

// A stream is written by hand, and says all the same who may read it.
func TestCORS_OfAStream(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		conn, err := w.dialer(w.Context(), "", "")
		if err != nil {
			w.Fatalf("connect: %v", err)
		}
		defer conn.Close()
		go func() {
			_, _ = io.WriteString(conn, request("GET /events HTTP/1.1", "Accept: text/event-stream",
				"Origin: https://app.example.com", "Authorization: Bearer "+w.token("alice")))
		}()
		response, err := http.ReadResponse(newReader(conn), nil)
		if err != nil {
			w.Fatalf("read the head of a stream: %v", err)
		}
		defer response.Body.Close()
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": "https://app.example.com", "Vary": "Origin", "Content-Type": "text/event-stream",
			"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
		} {
			if got := response.Header.Values(name); len(got) != 1 || got[0] != want {
				w.Errorf("got %s %q, want %q", name, got, want)
			}
		}
	}, withCookie)
}
