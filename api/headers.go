package api

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// unread counts connections that end before the headers of a request were read: those that were too slow, or sent too
// much. net/http ends them by itself, and tells nobody. One that sends nothing at all is not counted: balancers look
// in like that.
type unread struct {
	count func()
	mu    sync.Mutex
	begun map[net.Conn]bool // whether bytes of a request have come that is not handled yet; guarded by mu
}

// connKey is where a request's context keeps its connection.
type connKey struct{}

func newUnread(count func()) *unread { return &unread{count: count, begun: make(map[net.Conn]bool)} }

// context is for http.Server.ConnContext.
func (u *unread) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// state is for http.Server.ConnState.
func (u *unread) state(conn net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch state {
	case http.StateActive:
		u.begun[conn] = true
	case http.StateClosed:
		if u.begun[conn] {
			u.count()
		}
		delete(u.begun, conn)
	case http.StateIdle, http.StateHijacked:
		delete(u.begun, conn)
	case http.StateNew:
	}
}

// handle notes that the headers of a request were read.
func (u *unread) handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			u.mu.Lock()
			u.begun[conn] = false
			u.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}
