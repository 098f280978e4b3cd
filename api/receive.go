package api

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/auth"
)

// receive handles one text frame of the client. It is called by the goroutine that reads the socket, one at a time.
func (t *socket) receive(message []byte) {
	defer func() { t.survived(recover()) }()
	if !t.admit() {
		return
	}
	f, bad := parseClientFrame(message, t.server.limits.Videos)
	switch {
	case bad == errInvalidUTF8:
		t.close(bad)
		return
	case bad == errTooManyVideos:
		t.complain(t.server.reached(limitVideos), f.Ref)
		return
	case bad != nil:
		t.complain(bad, f.Ref)
		return
	case f.Type != "auth" && !t.authenticated():
		t.close(errUnauthorized)
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, readLimit)
	defer cancel()
	switch f.Type {
	case "auth":
		t.authenticate(ctx, f.Token, f.Ref)
	case "subscribe":
		if err := t.subscribe(ctx, f.Videos, f.Ref); err != nil {
			t.complain(t.refusal(err), f.Ref)
		}
	case "unsubscribe":
		t.unsubscribe(f.Videos, f.Ref)
	case "ping":
		t.say("pong", nil, pongData{Ref: f.Ref})
	}
	t.reply()
}

// admit tells whether something that the client sent is to be looked at: a frame, or a ping or pong of the protocol.
func (t *socket) admit() bool {
	t.mu.Lock()
	closing := t.closing
	t.mu.Unlock()
	if !closing && !t.limiter.Allow() {
		t.close(t.server.reached(limitFrameRate))
		return false
	}
	return !closing
}

// pinged answers a ping of the protocol.
func (t *socket) pinged(conn *websocket.Conn, data string) {
	if t.admit() {
		// A pong that finds no room within the limit is not missed: such a client does not read.
		_ = conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongWithin))
	}
}

// complain answers a frame in error, and ends the connection when there have been too many.
func (t *socket) complain(p *problem, ref json.RawMessage) {
	if p.Close == closePolicy {
		if t.bad++; t.bad >= badFramesMost {
			t.closeAnswered(p)
			return
		}
	}
	t.say("error", nil, errorOf(p, ref))
	t.reply()
}

// authenticate opens the session by a token in a frame, or extends it.
func (t *socket) authenticate(ctx context.Context, token string, ref json.RawMessage) {
	principal, err := t.server.verifier.Verify(token)
	if err != nil {
		t.server.refused(err)
		if t.authenticated() {
			t.complain(problemOf(err), ref) // the session goes on until its own token ends
			return
		}
		t.close(problemOf(err))
		return
	}
	if t.authenticated() {
		t.renew(principal, ref)
		return
	}
	if err := t.open(ctx, principal); err != nil {
		t.close(t.refusal(err))
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.schedule()
}

// renew extends the session by a fresh token of the same user.
func (t *socket) renew(fresh auth.Principal, ref json.RawMessage) {
	t.mu.Lock()
	same := fresh.User == t.principal.User
	if same && fresh.Expires.After(t.principal.Expires) {
		t.principal = fresh
		t.schedule()
	}
	expires := t.principal.Expires.UTC()
	t.mu.Unlock()
	if !same {
		t.close(errUserMismatch)
		return
	}
	if err := t.stillGood(); err != nil {
		t.close(problemOf(err))
		return
	}
	t.say("renewed", nil, expiresData{Expires: expires, Ref: ref})
}
