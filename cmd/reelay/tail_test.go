package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gorilla/websocket"
)

const readyFrame = `{"id":"s","source":"reelay/session","type":"reelay.ready","data":{"session":"s","user":"alice","heartbeat":25,"replica":"r1"}}`

// newGateway plays one script for each connection, in order. A call too many is refused for good.
func newGateway(t *testing.T, scripts ...func(r *http.Request, socket *websocket.Conn)) *httptest.Server {
	t.Helper()
	var calls atomic.Int32
	upgrader := websocket.Upgrader{Subprotocols: []string{"reelay.v1"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := int(calls.Add(1))
		if call > len(scripts) {
			http.Error(w, `{"code":"no_script"}`, http.StatusForbidden)
			return
		}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		defer func() { _ = socket.Close() }()
		scripts[call-1](r, socket)
	}))
	t.Cleanup(server.Close)
	return server
}

func sendFrames(t *testing.T, socket *websocket.Conn, frames ...string) {
	t.Helper()
	for _, frame := range frames {
		if err := socket.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			t.Errorf("send: %v", err)
		}
	}
}

func closeWith(socket *websocket.Conn, code int, reason string) {
	_ = socket.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason))
	untilClosed(socket)
}

func untilClosed(socket *websocket.Conn) {
	for {
		if _, _, err := socket.ReadMessage(); err != nil {
			return
		}
	}
}

// lines hands over what is written, line by line.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		l <- line
	}
	return len(text), nil
}

// tailing is a reelay tail that runs until the test interrupts it.
type tailing struct {
	stdout, stderr lines
	interrupt      context.CancelFunc
	ended          chan error
}

func startTail(t *testing.T, environ []string, stdin string, args ...string) *tailing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tail := &tailing{make(lines, 100), make(lines, 100), cancel, make(chan error, 1)}
	t.Cleanup(cancel)
	go func() {
		tail.ended <- run(ctx, append([]string{"tail"}, args...), environ, strings.NewReader(stdin), tail.stdout, tail.stderr)
		close(tail.stdout)
		close(tail.stderr)
	}()
	return tail
}

func (l lines) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-l; got != w+"\n" {
			t.Errorf("got  %q\nwant %q", got, w+"\n")
		}
	}
}

// rest returns the lines until the end.
func (l lines) rest() string {
	var all strings.Builder
	for line := range l {
		all.WriteString(line)
	}
	return all.String()
}

func TestTail_ShowsEventsAndGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t,
		func(r *http.Request, socket *websocket.Conn) {
			if got := r.Header.Get("Authorization"); got != "Bearer token-1" {
				t.Errorf("Authorization: got %q", got)
			}
			if got := r.URL.RawQuery; got != "" {
				t.Errorf("query: got %q, want none", got)
			}
			sendFrames(t, socket, readyFrame,
				`{"id":"p1","source":"reelay/session","type":"reelay.snapshot","data":{"videos":[{"id":"vid_1","processing_status":"queued"}],"last":false}}`,
				`{"id":"p2","source":"reelay/session","type":"reelay.snapshot","cursor":"c.1","data":{"videos":[{"id":"vid_22","processing_status":"ready"}],"last":true,"truncated":true}}`,
				`{"id":"c.2","source":"reelay","type":"video.updated","subject":"vid_1","data":{"processing_status":"processing","title":"x","previous":{"processing_status":"queued"}}}`,
			)
			closeWith(socket, 1012, "restart")
		},
		func(r *http.Request, socket *websocket.Conn) {
			if got := r.URL.RawQuery; got != "after=c.2" {
				t.Errorf("query: got %q, want after=c.2", got)
			}
			sendFrames(t, socket, strings.Replace(readyFrame, `"user"`, `"resumed":true,"user"`, 1),
				`{"id":"c.3","source":"reelay","type":"video.deleted","subject":"vid_1"}`)
			untilClosed(socket)
		},
	)
	tail := startTail(t, nil, "token-1\n", "--url", gateway.URL, "--token", "-")
	// The frames tell no time, so that the test does not depend on it; TestPrinter has it.
	const noTime = "            "
	tail.stdout.expect(t,
		noTime+"  snapshot  vid_1  processing_status: queued",
		noTime+"  snapshot  vid_22  processing_status: ready   c.1",
		noTime+"  video.updated  vid_1   processing_status: queued → processing  c.2",
		noTime+"  video.deleted  vid_1                                           c.3",
	)
	tail.interrupt()
	if err := <-tail.ended; err != nil {
		t.Errorf("interrupted: got %v, want nil", err)
	}
	stderr := tail.stderr.rest()
	// How long it waits is chance.
	before, after, found := strings.Cut(stderr, "lost: closed with 1012 restart, retrying in ")
	_, after, _ = strings.Cut(after, "\n")
	if got, want := before+after, "connected to replica r1 as alice\nthere are more videos than a snapshot holds\n"+
		"connected to replica r1 as alice, resumed\nresume with --after c.3\n"; !found || got != want {
		t.Errorf("standard error: got\n%s\nwant, with a line about the lost connection,\n%s", stderr, want)
	}
}

func TestTail_PrintsFramesAsTheyCame(t *testing.T) {
	t.Parallel()
	const event = `{"id":"c.2","source":"reelay","type":"comment.added","subject":"vid_1","data":{"z":1,"a":"\u2028"},"extra":[1,2]}`
	gateway := newGateway(t, func(r *http.Request, socket *websocket.Conn) {
		if got, want := r.URL.Query(), "after=c.1&video=a%2Cb&video=vid_1"; got.Encode() != want {
			t.Errorf("query: got %q, want %q", got.Encode(), want)
		}
		sendFrames(t, socket, readyFrame, strings.Replace(event, `,"type"`, ",\n \"type\"", 1))
		untilClosed(socket)
	})
	tail := startTail(t, []string{"REELAY_URL=" + gateway.URL, "REELAY_TOKEN=token-1"}, "",
		"--json", "--after", "c.1", "--video", "a,b", "--video", "vid_1", "--no-snapshot")
	tail.stdout.expect(t, readyFrame, event)
	tail.interrupt()
	if err := <-tail.ended; err != nil {
		t.Errorf("interrupted: got %v, want nil", err)
	}
}

func TestTail_WantsNoSnapshot(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, func(r *http.Request, socket *websocket.Conn) {
		if got := r.URL.RawQuery; got != "snapshot=0" {
			t.Errorf("query: got %q, want snapshot=0", got)
		}
		closeWith(socket, 3003, "forbidden")
	})
	tail := startTail(t, []string{"REELAY_URL=" + gateway.URL, "REELAY_TOKEN=token-1"}, "", "--no-snapshot")
	if err := <-tail.ended; err == nil || err.Error() != "closed with 3003 forbidden" {
		t.Errorf("got %v, want the close", err)
	}
}

func TestTail_TellsWhatTheGatewayTells(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, func(_ *http.Request, socket *websocket.Conn) {
		sendFrames(t, socket,
			`{"id":"s","source":"reelay/session","type":"reelay.ready","data":{"user":"ali\u001bce"}}`,
			`{"id":"1","source":"reelay/session","type":"reelay.reset","data":{"reason":"too_old"}}`,
			`{"id":"2","source":"reelay/session","type":"reelay.subscribed","data":{"videos":[],"unknown":["vid_7"]}}`,
			`{"id":"3","source":"reelay/session","type":"reelay.error","data":{"code":"bad_frame","message":"what?","hint":"look"}}`,
			`{"id":"4","source":"reelay/session","type":"reelay.pong"}`,
		)
		closeWith(socket, 1008, "bad_frame")
	})
	tail := startTail(t, nil, "", "--url", gateway.URL, "--token", "x")
	if err := <-tail.ended; err == nil || err.Error() != "closed with 1008 bad_frame" {
		t.Errorf("got %v, want the close", err)
	}
	tail.stderr.expect(t,
		`connected as ali\x1bce`,
		"the cursor cannot be resumed from (too_old), everything is shown again",
		"no video vid_7 is known to be this user's",
		"the gateway says bad_frame: what? look",
	)
	if rest := tail.stderr.rest() + tail.stdout.rest(); rest != "" {
		t.Errorf("there is more: %q", rest)
	}
}

func TestTail_SaysWhatToDoAboutARefusedToken(t *testing.T) {
	t.Parallel()
	refuse := func(_ *http.Request, socket *websocket.Conn) { closeWith(socket, 3000, "token_expired") }
	tail := startTail(t, nil, "", "--url", newGateway(t, refuse).URL, "--token", "hunter2")
	if err := <-tail.ended; err == nil || !strings.Contains(err.Error(), "make another with: reelay token --user ID") {
		t.Errorf("token of a flag: got %v", err)
	}
	if got := <-tail.stderr; !strings.HasPrefix(got, "no connection: closed with 3000 token_expired, retrying in ") {
		t.Errorf("standard error: got %q", got)
	}
	tail = startTail(t, nil, "", "--url", newGateway(t, refuse, refuse).URL, "--token-file", writeFile(t, "hunter2\n"))
	err := <-tail.ended
	if err == nil || !strings.Contains(err.Error(), "closed with 3000 token_expired\nthe gateway refuses the token: is it of the issuer") {
		t.Errorf("token of a file: got %v", err)
	}
}

func TestTail_ReadsANewTokenFromItsFile(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "token-1\n")
	gateway := newGateway(t,
		func(_ *http.Request, socket *websocket.Conn) {
			if err := replaceFile(path, "token-2\n"); err != nil {
				t.Error(err)
			}
			closeWith(socket, 3000, "token_expired")
		},
		func(r *http.Request, socket *websocket.Conn) {
			if got := r.Header.Get("Authorization"); got != "Bearer token-2" {
				t.Errorf("Authorization: got %q, want the new token", got)
			}
			closeWith(socket, 3003, "the_end")
		},
	)
	tail := startTail(t, nil, "", "--url", gateway.URL, "--token-file", path)
	if err := <-tail.ended; err == nil || err.Error() != "closed with 3003 the_end" {
		t.Errorf("got %v, want the second close", err)
	}
}

func TestTail_OffersNoCursorThatWasRefused(t *testing.T) {
	t.Parallel()
	tail := startTail(t, nil, "", "--url", newGateway(t).URL, "--token", "x", "--after", "bogus")
	if err := <-tail.ended; err == nil || err.Error() != "HTTP 403 Forbidden: no_script" {
		t.Errorf("got %v, want the refusal", err)
	}
	if rest := tail.stderr.rest(); rest != "" {
		t.Errorf("standard error: got %q, want nothing", rest)
	}
}

func TestTail_LeavesWhileItReadsTheToken(t *testing.T) {
	t.Parallel()
	stdin, typist := io.Pipe()
	defer func() { _ = typist.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"tail", "--token", "-"}, nil, stdin, io.Discard, io.Discard); err == nil {
		t.Error("got no error, though there was no token")
	}
}

// As in: reelay tail | head -1. There is no second event that would tell by an error that the reader has left.
func TestTail_EndsWhenItsReaderHasEnough(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, func(_ *http.Request, socket *websocket.Conn) {
		sendFrames(t, socket, readyFrame, `{"id":"c.1","source":"reelay","type":"video.deleted","subject":"vid_1"}`)
		untilClosed(socket)
	})
	cmd := play(t, "reelay", []string{"REELAY_TOKEN=x"}, "tail", "--url", gateway.URL)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.Contains(line, "video.deleted  vid_1") {
		t.Errorf("read %q, %v", line, err)
	}
	_ = stdout.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v, want exit code 0", err)
	}
	if got, want := stderr.String(), "connected to replica r1 as alice\n"; got != want {
		t.Errorf("standard error: got %q, want %q", got, want)
	}
}

// A reader can also leave while an event is being printed. The signal that comes with that must not end the process.
func TestTail_EndsWellInTheMiddleOfAnEvent(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, func(_ *http.Request, socket *websocket.Conn) {
		sendFrames(t, socket, readyFrame, `{"id":"c.1","source":"reelay","type":"video.deleted","subject":"vid_1"}`)
		untilClosed(socket)
	})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	stderr := make(lines, 100)
	pipe := struct{ io.Writer }{writer} // no file, so that the write alone tells
	if err := run(t.Context(), []string{"tail", "--url", gateway.URL, "--token", "x"}, nil, nil, pipe, stderr); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	stderr.expect(t, "connected to replica r1 as alice")
	if len(stderr) > 0 {
		t.Errorf("there is more on standard error: %q", <-stderr)
	}
}

func TestTail_EndsWellWithCtrlC(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t, func(_ *http.Request, socket *websocket.Conn) {
		sendFrames(t, socket, readyFrame, `{"id":"c.1","source":"reelay","type":"video.deleted","subject":"vid_1"}`)
		if _, _, err := socket.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("the client left with %v, want code 1000", err)
		}
	})
	cmd := play(t, "reelay", []string{"REELAY_TOKEN=x"}, "tail", "--url", gateway.URL)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Errorf("read %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v, want exit code 0", err)
	}
	if got := strings.SplitAfter(stderr.String(), "\n"); !slices.Contains(got, "resume with --after c.1\n") {
		t.Errorf("standard error: got %q, want the cursor", got)
	}
}
