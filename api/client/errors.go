package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// ErrUnauthorized is in the error of Run when the gateway refused a token and the next one as well. A Config.Token may
// return it too: there is no other token to be had.
var ErrUnauthorized = errors.New("unauthorized")

// Close codes of the gateway that are not in RFC 6455.
const (
	closeUnauthorized = 3000
	closeForbidden    = 3003
)

// CloseError says that the gateway, or this client, ended a connection with a close code.
type CloseError struct {
	Code int
	// Reason is the gateway's stable error code, such as token_expired.
	Reason string
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("closed with %d", e.Code)
	}
	return fmt.Sprintf("closed with %d %s", e.Code, e.Reason)
}

// Is makes a CloseError of a refused token an ErrUnauthorized.
func (e *CloseError) Is(target error) bool {
	return target == ErrUnauthorized && e.Code == closeUnauthorized
}

// HTTPError says that the gateway, or something before it, answered the handshake with a status instead of a WebSocket.
type HTTPError struct {
	Status int
	// Code is the gateway's stable error code; empty when the answer is no problem document.
	Code string
	// Hint is what the gateway advises; it may be empty.
	Hint string
	// RetryAfter is how long it asks to wait; zero if it did not ask.
	RetryAfter time.Duration
}

func (e *HTTPError) Error() string {
	text := fmt.Sprintf("HTTP %d %s", e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		text += ": " + e.Code
	}
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Is makes an HTTPError of a refused token an ErrUnauthorized.
func (e *HTTPError) Is(target error) bool {
	return target == ErrUnauthorized && e.Status == http.StatusUnauthorized
}

// maxRetryAfter bounds what a server can ask for: a slip in a proxy's configuration must not silence a client for days.
const maxRetryAfter = 10 * time.Minute

// readHTTPError reads the answer to a handshake that did not become a WebSocket.
func readHTTPError(response *http.Response) *HTTPError {
	e := &HTTPError{Status: response.StatusCode, RetryAfter: parseRetryAfter(response.Header.Get("Retry-After"))}
	// The dialer has kept at most the first kilobyte. A document cut there, or no document at all, leaves Code empty.
	body, err := io.ReadAll(response.Body)
	var problem struct {
		Code string `json:"code"`
		Hint string `json:"hint"`
	}
	if err == nil && json.Unmarshal(body, &problem) == nil {
		e.Code, e.Hint = problem.Code, problem.Hint
	}
	if e.Hint == "" && response.StatusCode < 300 {
		e.Hint = "the address answers, but not with a WebSocket: does a proxy in between drop the Upgrade header?"
	}
	if e.Hint == "" && response.StatusCode == http.StatusNotFound {
		e.Hint = "no gateway there: is it the address that clients use?"
	}
	if location := response.Header.Get("Location"); e.Hint == "" && location != "" {
		e.Hint = "it redirects to " + location
	}
	return e
}

// parseRetryAfter reads both forms of the header: seconds, and a date.
func parseRetryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	wait := time.Duration(0)
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		wait = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		wait = time.Until(date)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// verdict is what the end of a connection means for the next one.
type verdict int

const (
	// retry: connect again, with the cursor.
	retry verdict = iota
	// renew: the same, with another token.
	renew
	// stop: it would end in the same way again.
	stop
)

// judge is the one place that knows which end of a connection means what.
func judge(err error) verdict {
	if _, ok := errors.AsType[*handlerError](err); ok {
		return stop
	}
	if closed, ok := errors.AsType[*CloseError](err); ok {
		switch closed.Code {
		case closeUnauthorized:
			return renew
		case closeForbidden, websocket.ClosePolicyViolation, websocket.CloseMessageTooBig,
			websocket.CloseUnsupportedData, websocket.CloseProtocolError, websocket.CloseInvalidFramePayloadData:
			return stop
		}
		// 1001, 1006, 1011, 1012, 1013, 3008 and whatever is invented later.
		return retry
	}
	if answered, ok := errors.AsType[*HTTPError](err); ok {
		switch status := answered.Status; {
		case status == http.StatusUnauthorized:
			return renew
		case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
			return retry
		case status >= 500:
			return retry
		}
		// Bad request, forbidden, a redirect, a page instead of a WebSocket.
		return stop
	}
	if errors.Is(err, ErrUnauthorized) {
		return stop // from Config.Token: there is no token to try with
	}
	return retry
}

// handlerError marks an error that the caller's own handler returned.
type handlerError struct {
	frame Frame
	err   error
}

func (e *handlerError) Error() string {
	return fmt.Sprintf("handle frame %s (%s): %v", e.frame.ID, e.frame.Type, e.err)
}

func (e *handlerError) Unwrap() error { return e.err }

// readError turns what gorilla says of the end of a connection into our words.
func readError(err error) error {
	if errors.Is(err, websocket.ErrReadLimit) {
		return &CloseError{Code: websocket.CloseMessageTooBig, Reason: "frame over the read limit"}
	}
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		return fmt.Errorf("read frame: %w", err)
	}
	if closed.Code == websocket.CloseAbnormalClosure { // gorilla's name for a cut without a close frame
		return fmt.Errorf("connection cut: %w", io.ErrUnexpectedEOF)
	}
	return &CloseError{Code: closed.Code, Reason: closed.Text}
}
