package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// Close codes beside those of RFC 6455, from IANA's registry of WebSocket close codes.
const (
	closeProtocol        = 1002
	closeUnsupportedData = 1003
	closeInvalidPayload  = 1007
	closePolicy          = 1008
	closeTooBig          = 1009
	closeInternal        = 1011
	closeRestart         = 1012
	closeTryAgain        = 1013
	closeUnauthorized    = 3000
	closeForbidden       = 3003
	closeTimeout         = 3008
)

// problem is one way to refuse: what HTTP and WebSocket clients see of it. Its code is stable, and is what programs
// branch on; it is the reason of a close frame too.
type problem struct {
	Code   string
	Status int // of HTTP
	Close  int // of WebSocket
	Title  string
	Hint   string
}

var (
	errUpgrade         = &problem{"upgrade_required", http.StatusUpgradeRequired, closePolicy, "This is no WebSocket handshake of version 13", "Connect with a WebSocket client, version 13. A proxy on the way has to pass Upgrade and Connection on."}
	errHandshake       = &problem{"invalid_handshake", http.StatusBadRequest, closePolicy, "The WebSocket handshake is not valid", "Send Sec-WebSocket-Key as RFC 6455 section 4.1 says; a client library does."}
	errVersion         = &problem{"http_version_not_supported", http.StatusHTTPVersionNotSupported, closePolicy, "An event stream needs HTTP/1.1 or HTTP/2", "A proxy on the way may speak HTTP/1.0 to this server: for nginx, set proxy_http_version 1.1."}
	errSubprotocol     = &problem{"unknown_subprotocol", http.StatusBadRequest, closePolicy, "None of the subprotocols offered is known", "Offer reelay.v1, beside reelay.bearer.<token> if the token goes there, or none at all."}
	errOrigin          = &problem{"origin_not_allowed", http.StatusForbidden, closeForbidden, "This origin may not connect", "The operator lists allowed origins in REELAY_ALLOWED_ORIGINS."}
	errTokenInURL      = &problem{"token_in_url", http.StatusBadRequest, closePolicy, "A token may not stand in the URL", "Send it as Authorization: Bearer, as subprotocol reelay.bearer.<token>, or in an auth frame."}
	errParameter       = &problem{"invalid_parameter", http.StatusBadRequest, closePolicy, "A query parameter is not valid", "snapshot and conflate are 0 or 1; video is 1 to 1024 bytes and may be given as often as REELAY_MAX_VIDEOS says; limit is 1 to 1000; wait is 0 to 60 seconds; after, limit and wait may be given once."}
	errMethod          = &problem{"method_not_allowed", http.StatusMethodNotAllowed, closePolicy, "The method is not allowed here", "Use one that the header Allow names: GET for /events, POST for /tickets."}
	errNotFound        = &problem{"not_found", http.StatusNotFound, closePolicy, "There is nothing at this address", "Events are at /events, tickets at /tickets."}
	errBody            = &problem{"unexpected_body", http.StatusBadRequest, closePolicy, "A request carries no body here", "Send the request without a body."}
	errCursor          = &problem{"invalid_cursor", http.StatusBadRequest, closePolicy, "The cursor is malformed", "Use the id of the last event, or the cursor of the last reelay.* frame, exactly as it came; or leave after= out."}
	errAmbiguous       = &problem{"ambiguous_credentials", http.StatusBadRequest, closePolicy, "More than one credential was sent", "Send the token in one place."}
	errUnauthorized    = &problem{"unauthorized", http.StatusUnauthorized, closeUnauthorized, "A token is needed", "Send it as Authorization: Bearer, as subprotocol reelay.bearer.<token>, or, from a page or with the subprotocol reelay.v1, in a first frame auth."}
	errInvalidTicket   = &problem{"invalid_ticket", http.StatusUnauthorized, closeUnauthorized, "The ticket is not valid", "A ticket is good once, for 30 seconds, from the page that asked for it. Get a new one from POST /tickets and connect again, with the cursor."}
	errRevoked         = &problem{"token_revoked", http.StatusUnauthorized, closeUnauthorized, "The token was revoked", "Sign in again, get a new token and connect with it."}
	errCookie          = &problem{"cookie_not_allowed", http.StatusForbidden, closeForbidden, "A cookie proves nothing here", "Connect from a page of an allowed origin, which browsers name in Origin; other clients send Authorization: Bearer."}
	errInvalidToken    = &problem{"invalid_token", http.StatusUnauthorized, closeUnauthorized, "The token is not valid", "Get a new token and connect again."}
	errTokenExpired    = &problem{"token_expired", http.StatusUnauthorized, closeUnauthorized, "The token has expired", "Get a new token and connect again, with the cursor."}
	errUserMismatch    = &problem{"user_mismatch", http.StatusForbidden, closeForbidden, "The fresh token is another user's", "Open a connection of its own for each user."}
	errAuthTimeout     = &problem{"auth_timeout", http.StatusRequestTimeout, closeTimeout, "No auth frame came in time", "Send {\"type\":\"auth\",\"token\":\"…\"} as the first frame, soon after connecting."}
	errInvalidFrame    = &problem{"invalid_frame", http.StatusBadRequest, closePolicy, "The frame is not understood", "Send one JSON object with a type of auth, subscribe, unsubscribe or ping, and its members only."}
	errTooManyVideos   = &problem{"too_many_videos", http.StatusBadRequest, closePolicy, "The filter would hold too many videos", "Unsubscribe from some, or filter on the client. The operator sets the limit with REELAY_MAX_VIDEOS."}
	errInvalidVideo    = &problem{"invalid_video", http.StatusBadRequest, closePolicy, "No video has such an id", "An id is text of 1 to 1024 bytes."}
	errBinary          = &problem{"binary_frame", http.StatusBadRequest, closeUnsupportedData, "Binary frames are not understood", "Send text frames."}
	errInvalidUTF8     = &problem{"invalid_utf8", http.StatusBadRequest, closeInvalidPayload, "A text frame is not UTF-8", "Encode text frames in UTF-8."}
	errProtocol        = &problem{"protocol_error", http.StatusBadRequest, closeProtocol, "The frames break the WebSocket protocol", "See RFC 6455 section 5; a client library keeps to it."}
	errTooBig          = &problem{"frame_too_big", http.StatusRequestEntityTooLarge, closeTooBig, "The frame is too big", "Send less in one frame. The operator sets the limit with REELAY_MAX_FRAME_BYTES."}
	errFrameTimeout    = &problem{"frame_timeout", http.StatusRequestTimeout, closeTimeout, "A frame was begun and not finished", "Send a frame within 5 seconds."}
	errRateLimited     = &problem{"rate_limited", http.StatusTooManyRequests, closeTryAgain, "Too many frames", "Send fewer, and connect again after a while, with the cursor."}
	errTooManyConnects = &problem{"rate_limited", http.StatusTooManyRequests, closeTryAgain, "Too many connections", "Close some, or connect again after a while, with the cursor: nothing is lost."}
	errTicketsAway     = &problem{"tickets_unavailable", http.StatusServiceUnavailable, closeTryAgain, "Tickets cannot be made or used for now", "Try again after a while, with a new ticket; or connect by another way to send a token."}
	errSlowConsumer    = &problem{"slow_consumer", http.StatusServiceUnavailable, closeTryAgain, "The client reads too slowly", "Connect again with the cursor: nothing is lost."}
	errUnavailable     = &problem{"unavailable", http.StatusServiceUnavailable, closeTryAgain, "Events cannot be read for now", "Connect again after a while, with the cursor: nothing is lost."}
	errAway            = &problem{"unavailable", http.StatusServiceUnavailable, closeTryAgain, "Events cannot be read for now", "Stay connected: nothing is lost, and what was missed comes when they can."}
	errAvailable       = &problem{"available", http.StatusOK, closeTryAgain, "Events can be read again", "Nothing to do: what was missed comes now."}
	errRestart         = &problem{"restart", http.StatusServiceUnavailable, closeRestart, "This replica is going away", "Connect again with the cursor: nothing is lost."}
	errInternal        = &problem{"internal", http.StatusInternalServerError, closeInternal, "Something went wrong here", "Connect again with the cursor. The operator finds the reason in the log."}
	problemContentType = "application/problem+json"
)

// Error implements error.
func (p *problem) Error() string { return p.Code }

// problemOf finds how a client is told of an error. What is not in the table is internal, and logged by the caller.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	for _, row := range []struct {
		err error
		*problem
	}{
		{auth.ErrNoToken, errUnauthorized},
		{auth.ErrExpiredToken, errTokenExpired},
		{auth.ErrRevokedToken, errRevoked},
		{auth.ErrInvalidToken, errInvalidToken},
		{auth.ErrAmbiguousCredentials, errAmbiguous},
		{hub.ErrMalformedCursor, errCursor},
		{hub.ErrUnavailable, errUnavailable},
		{hub.ErrClosed, errRestart},
	} {
		if errors.Is(err, row.err) {
			return row.problem
		}
	}
	return errInternal
}

// retryAfter is what a 503 asks for, in seconds.
const retryAfter = "2"

// write answers with a problem document (RFC 9457).
func (p *problem) write(c *gin.Context) {
	header := c.Writer.Header()
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="reelay"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		header.Set("Retry-After", retryAfter)
	case http.StatusUpgradeRequired:
		header.Set("Upgrade", "websocket")
		header.Set("Sec-WebSocket-Version", "13")
	}
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Hint   string `json:"hint"`
	}{"about:blank", p.Title, p.Status, p.Code, p.Hint})
	if err != nil {
		panic(fmt.Sprintf("problem %s cannot be encoded: %v", p.Code, err)) // constants only: cannot happen
	}
	header.Set("Cache-Control", "no-store")
	c.Abort()
	c.Data(p.Status, problemContentType, body)
}
