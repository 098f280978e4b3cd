package api

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/hub"
)

const (
	// subprotocol is the name of the frames this package speaks.
	subprotocol = "reelay.v1"
	// videoIDMost is the longest video id in a filter, in bytes.
	videoIDMost = 1024
	// limitDefault and limitMost are how many events a page holds.
	limitDefault, limitMost = 100, 1000
	// waitMost is how long a page may be waited for: proxies cut what is silent for longer.
	waitMost = 60 * time.Second
)

// query is what the URL of /events asks for.
type query struct {
	after    *hub.Cursor
	snapshot bool
	videos   []string // nil: all
	conflate bool
	// asksSnapshot says that snapshot was given, and is not what it is when left out.
	asksSnapshot bool
	limit        int           // of a page: how many events
	wait         time.Duration // of a page: for how long, if there is nothing yet
}

// parseQuery reads the query of /events, which may filter videosMost videos. It returns a *problem, or
// ErrMalformedCursor. Credentials in the query are not looked at; see credentialOf.
func parseQuery(raw string, videosMost int) (query, url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil { // what cannot be read must not count as left out
		return query{}, nil, errParameter
	}
	q, err := queryOf(values, videosMost)
	return q, values, err
}

func queryOf(values url.Values, videosMost int) (q query, err error) {
	switch after := values["after"]; len(after) {
	case 0:
	case 1:
		cursor, err := hub.ParseCursor(after[0])
		if err != nil {
			return query{}, err
		}
		q.after = &cursor
	default:
		return query{}, errParameter
	}
	if q.snapshot, err = parseBool(values["snapshot"], q.after == nil); err != nil {
		return query{}, err
	}
	if q.conflate, err = parseBool(values["conflate"], false); err != nil {
		return query{}, err
	}
	q.asksSnapshot = values.Has("snapshot")
	limit, err := parseNumber(values["limit"], 1, limitMost, limitDefault)
	if err != nil {
		return query{}, err
	}
	wait, err := parseNumber(values["wait"], 0, int(waitMost/time.Second), 0)
	if err != nil {
		return query{}, err
	}
	q.limit, q.wait = limit, time.Duration(wait)*time.Second
	q.videos = values["video"]
	if len(q.videos) > videosMost || slices.ContainsFunc(q.videos, invalidVideo) {
		return query{}, errParameter
	}
	return q, nil
}

// parseBool reads a parameter that is 0 or 1, or not given.
func parseBool(values []string, absent bool) (bool, error) {
	switch {
	case len(values) == 0:
		return absent, nil
	case len(values) == 1 && (values[0] == "0" || values[0] == "1"):
		return values[0] == "1", nil
	}
	return false, errParameter
}

// parseNumber reads a parameter that is a number between two, in decimal digits, or not given.
func parseNumber(values []string, least, most, absent int) (int, error) {
	if len(values) == 0 {
		return absent, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || len(values) > 1 || n < least || n > most || strconv.Itoa(n) != values[0] {
		return 0, errParameter
	}
	return n, nil
}

// resume takes over the cursor of a client that was here before, which is newer than that of the URL it came by then.
func (q *query) resume(lastEventID string) error {
	if lastEventID == "" {
		return nil
	}
	cursor, err := hub.ParseCursor(lastEventID)
	if err != nil {
		return err
	}
	q.after = &cursor
	q.snapshot = q.snapshot && q.asksSnapshot
	return nil
}

// invalidVideo tells whether no video can be of this id: Postgres has neither NUL nor what is no UTF-8 in text, and
// refuses the whole query they stand in, which asks for others too.
func invalidVideo(id string) bool {
	return id == "" || len(id) > videoIDMost || !utf8.ValidString(id) || strings.ContainsRune(id, 0)
}

// checkHandshake looks at what a WebSocket handshake must have, since what the library answers is no problem document.
func checkHandshake(r *http.Request) *problem {
	if !websocket.IsWebSocketUpgrade(r) || r.Header.Get("Sec-WebSocket-Version") != "13" {
		return errUpgrade
	}
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	if err != nil || len(key) != 16 || r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return errHandshake
	}
	if len(websocket.Subprotocols(r)) > 0 && !offersSubprotocol(r) {
		return errSubprotocol
	}
	return nil
}

// offersSubprotocol tells whether the client says that it knows the frames this package speaks.
func offersSubprotocol(r *http.Request) bool {
	return slices.Contains(websocket.Subprotocols(r), subprotocol)
}

// originAllowed tells whether a page of the request's origin may connect. Programs that are no browser send none, and
// may. With no origins configured, a page may connect to the host it came from.
func originAllowed(r *http.Request, allowed []string) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	if len(allowed) == 0 {
		origin, err := url.Parse(origins[0])
		return err == nil && origin.Host != "" && strings.EqualFold(origin.Host, r.Host) && origin.Scheme+"://"+origin.Host == origins[0]
	}
	for _, a := range allowed {
		if a == "*" && origins[0] != "null" || strings.EqualFold(a, origins[0]) {
			return true
		}
	}
	return false
}

// isBrowser tells whether the client sees no HTTP status of a failed upgrade: pages send an Origin, others do not.
func isBrowser(r *http.Request) bool { return r.Header.Get("Origin") != "" }
