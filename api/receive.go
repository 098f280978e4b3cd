package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// receive handles one text frame of the client. It is called by the goroutine that reads the socket, one at a time.
func (c *connection) receive(message []byte) {
	defer func() { c.survived(recover()) }()
	if !c.admit() {
		return
	}
	frame, bad := parseClientFrame(message, c.server.limits.Videos)
	switch {
	case bad == errInvalidUTF8:
		c.close(bad)
		return
	case bad == errTooManyVideos:
		c.complain(c.server.reached(limitVideos), frame.Ref)
		return
	case bad != nil:
		c.complain(bad, frame.Ref)
		return
	case frame.Type != "auth" && !c.authenticated():
		c.close(errUnauthorized)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, readLimit)
	defer cancel()
	switch frame.Type {
	case "auth":
		c.authenticate(ctx, frame.Token, frame.Ref)
	case "subscribe":
		if err := c.subscribe(ctx, frame.Videos, frame.Ref); err != nil {
			c.complain(c.refusal(err), frame.Ref)
		}
	case "unsubscribe":
		c.unsubscribe(frame.Videos, frame.Ref)
	case "ping":
		c.say("pong", nil, pongData{Ref: frame.Ref})
	}
	c.reply()
}

// admit tells whether something that the client sent is to be looked at: a frame, or a ping or pong of the protocol.
func (c *connection) admit() bool {
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if !closing && !c.limiter.Allow() {
		c.close(c.server.reached(limitFrameRate))
		return false
	}
	return !closing
}

// pinged answers a ping of the protocol.
func (c *connection) pinged(conn *websocket.Conn, data string) {
	if c.admit() {
		// A pong that finds no room within the limit is not missed: such a client does not read.
		_ = conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongWithin))
	}
}

// reply sends what was queued, or ends a connection that asks and does not read the answers.
func (c *connection) reply() {
	c.mu.Lock()
	full := len(c.own) > repliesMost
	c.mu.Unlock()
	if full {
		c.close(errSlowConsumer)
		return
	}
	c.pump()
}

// complain answers a frame in error, and ends the connection when there have been too many.
func (c *connection) complain(p *problem, ref json.RawMessage) {
	if p.Close == closePolicy {
		if c.bad++; c.bad >= badFramesMost {
			c.closeAnswered(p)
			return
		}
	}
	c.say("error", nil, errorOf(p, ref))
	c.reply()
}

// announce tells a session what concerns all of them.
func (c *connection) announce(p *problem) {
	if c.authenticated() {
		c.say("error", nil, errorOf(p, nil))
		c.reply()
	}
}

func errorOf(p *problem, ref json.RawMessage) errorData {
	return errorData{Code: p.Code, Message: p.Title, Hint: p.Hint, Ref: ref}
}

func (c *connection) authenticated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil
}

// authenticate opens the session by a token in a frame, or extends it.
func (c *connection) authenticate(ctx context.Context, token string, ref json.RawMessage) {
	principal, err := c.server.verifier.Verify(token)
	if err != nil {
		c.server.refused(err)
		if c.authenticated() {
			c.complain(problemOf(err), ref) // the session goes on until its own token ends
			return
		}
		c.close(problemOf(err))
		return
	}
	if c.authenticated() {
		c.renew(principal, ref)
		return
	}
	if err := c.open(ctx, principal); err != nil {
		c.close(c.refusal(err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedule()
}

// renew extends the session by a fresh token of the same user.
func (c *connection) renew(fresh auth.Principal, ref json.RawMessage) {
	c.mu.Lock()
	same := fresh.User == c.principal.User
	if same && fresh.Expires.After(c.principal.Expires) {
		c.principal = fresh
		c.schedule()
	}
	expires := c.principal.Expires.UTC()
	c.mu.Unlock()
	if !same {
		c.close(errUserMismatch)
		return
	}
	if err := c.stillGood(); err != nil {
		c.close(problemOf(err))
		return
	}
	c.say("renewed", nil, expiresData{Expires: expires, Ref: ref})
}

// subscribe adds videos to the filter, if they are the user's. A video that is another's and one that does not exist
// are answered alike. The reading goroutine alone changes the filter.
func (c *connection) subscribe(ctx context.Context, videos []string, ref json.RawMessage) error {
	wider := make(map[string]bool, len(c.filter)+len(videos))
	maps.Copy(wider, c.filter)
	for _, id := range videos {
		wider[id] = true
	}
	if len(wider) > c.server.limits.Videos {
		return c.server.reached(limitVideos)
	}
	if c.filter != nil {
		// First the filter and then the question, so that what changes between the two is not missed. A connection that
		// has had all videos has them until there is an answer.
		c.session.Filter(subjects(wider))
	}
	unknown, err := confirm(ctx, c.session, wider, videos, func(id string) bool { _, before := c.filter[id]; return before })
	if err != nil {
		c.session.Filter(subjects(c.filter))
		return err
	}
	c.setFilter(c.session, wider)
	c.say("subscribed", nil, subscribedData{Videos: known(wider), Unknown: unknown, Ref: ref})
	return nil
}

// confirmFilter looks which videos of the query are the user's. A session that resumes may have been away when one of
// them was deleted or handed on, and has yet to be told.
func (c *connection) confirmFilter(ctx context.Context, session *hub.Session, resumed bool) error {
	filter := maps.Clone(c.filter)
	unknown, err := confirm(ctx, session, filter, c.query.videos, func(string) bool { return resumed })
	if err != nil {
		return err
	}
	c.setFilter(session, filter)
	c.say("subscribed", nil, subscribedData{Videos: known(filter), Unknown: unknown})
	return nil
}

// confirm asks which of videos are the user's, and returns the others. Those lose their place in filter, or, if there
// may be a last event of them to come, are marked there. No event of another's video can come, whatever the filter.
func confirm(
	ctx context.Context, session *hub.Session, filter map[string]bool, videos []string, last func(id string) bool,
) (unknown []string, err error) {
	owned, err := session.Lookup(ctx, videos)
	if err != nil {
		return nil, err
	}
	unknown = []string{}
	for _, id := range videos {
		if _, ok := owned[id]; ok || slices.Contains(unknown, id) {
			continue
		}
		unknown = append(unknown, id)
		if last(id) {
			filter[id] = false
		} else {
			delete(filter, id)
		}
	}
	return unknown, nil
}

// unsubscribe takes videos out of the filter. Without a filter there is nothing to take out: the client has all its
// videos, and is told so by null.
func (c *connection) unsubscribe(videos []string, ref json.RawMessage) {
	data := subscribedData{Unknown: []string{}, Ref: ref}
	if c.filter != nil {
		narrower := maps.Clone(c.filter)
		for _, id := range videos {
			delete(narrower, id)
		}
		c.setFilter(c.session, narrower)
		data.Videos = known(narrower)
	}
	c.say("subscribed", nil, data)
}

func (c *connection) setFilter(session *hub.Session, filter map[string]bool) {
	session.Filter(subjects(filter))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = filter
}

// subjects returns the filter as a session takes it; nil for nil.
func subjects(filter map[string]bool) map[string]struct{} {
	if filter == nil {
		return nil
	}
	all := make(map[string]struct{}, len(filter))
	for id := range filter {
		all[id] = struct{}{}
	}
	return all
}

// known returns the filter's videos that are the user's, sorted; nil for nil.
func known(filter map[string]bool) []string {
	if filter == nil {
		return nil
	}
	videos := make([]string, 0, len(filter))
	for id, owned := range filter {
		if owned {
			videos = append(videos, id)
		}
	}
	slices.Sort(videos)
	return videos
}
