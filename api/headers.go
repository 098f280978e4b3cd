package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// unread counts connections that end before the headers of a request were read: those that were too slow, or sent too
// much. net/http ends them by itself, and tells nobody. One that sends nothing at all is not counted: balancers look
// in like that.
//
// Over HTTP/2 net/http has no limit of its own for headers that do not come to their end, but that of an idle
// connection; so here a connection is ended whose first request does not come in time, whatever it speaks.
type unread struct {
	count func()
	limit time.Duration
	mu    sync.Mutex
	conns map[net.Conn]*waiting // guarded by mu
}

// waiting is a connection that has something to say.
type waiting struct {
	begun  bool        // bytes of a request have come that is not handled yet
	spoken bool        // bytes have come
	timer  *time.Timer // to the end of a connection without a request; nil: there was one
}

// connKey is where a request's context keeps its connection.
type connKey struct{}

func newUnread(limit time.Duration, count func()) *unread {
	return &unread{count: count, limit: limit, conns: make(map[net.Conn]*waiting)}
}

// context is for http.Server.ConnContext.
func (u *unread) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// state is for http.Server.ConnState.
func (u *unread) state(conn net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.conns[conn]
	switch state {
	case http.StateNew:
		u.conns[conn] = &waiting{timer: time.AfterFunc(u.limit, func() { _ = conn.Close() })}
	case http.StateActive:
		w.begun, w.spoken = true, true
	case http.StateIdle:
		w.begun = false
	case http.StateClosed, http.StateHijacked:
		// HTTP/2 is idle from its first words to its first request.
		if state == http.StateClosed && (w.begun || w.spoken && w.timer != nil) {
			u.count()
		}
		w.requested()
		delete(u.conns, conn)
	}
}

func (w *waiting) requested() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// handle notes that the headers of a request were read.
func (u *unread) handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			u.mu.Lock()
			if w := u.conns[conn]; w != nil {
				w.begun = false
				w.requested()
			}
			u.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}
