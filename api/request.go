package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/hub"
)

const (
	// subprotocol is the name of the frames this package speaks.
	subprotocol = "reelay.v1"
	// filterMost is how many videos a connection may filter.
	filterMost = 100
	// videoIDMost is the longest video id in a filter, in bytes.
	videoIDMost = 1024
)

// query is what the URL of /events asks for.
type query struct {
	after    *hub.Cursor
	snapshot bool
	videos   []string // nil: all
}

// parseQuery reads the query of /events. It returns a *problem, or ErrMalformedCursor.
func parseQuery(values url.Values) (query, error) {
	if values.Has("access_token") || values.Has("token") {
		return query{}, errTokenInURL
	}
	var q query
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
	switch snapshot := values["snapshot"]; {
	case len(snapshot) == 0:
		q.snapshot = q.after == nil
	case len(snapshot) == 1 && (snapshot[0] == "0" || snapshot[0] == "1"):
		q.snapshot = snapshot[0] == "1"
	default:
		return query{}, errParameter
	}
	q.videos = values["video"]
	if !validVideos(q.videos) {
		return query{}, errParameter
	}
	return q, nil
}

func validVideos(videos []string) bool {
	for _, id := range videos {
		if id == "" || len(id) > videoIDMost {
			return false
		}
	}
	return len(videos) <= filterMost
}

// checkHandshake looks at what a WebSocket handshake must have, since what the library answers is no problem document.
func checkHandshake(r *http.Request) *problem {
	if !websocket.IsWebSocketUpgrade(r) || r.Header.Get("Sec-WebSocket-Version") != "13" {
		return errUpgrade
	}
	if r.Header.Get("Sec-WebSocket-Key") == "" || r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return errHandshake
	}
	offered := websocket.Subprotocols(r)
	if len(offered) == 0 {
		return nil
	}
	for _, name := range offered {
		if name == subprotocol {
			return nil
		}
	}
	return errSubprotocol
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
