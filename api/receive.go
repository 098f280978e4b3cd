package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

// receive handles one text frame of the client. It is called by the goroutine that reads the socket, one at a time.
func (c *connection) receive(message []byte) {
	if !c.limiter.Allow() {
		c.close(errRateLimited)
		return
	}
	frame, bad := parseClientFrame(message)
	switch {
	case bad == errInvalidUTF8:
		c.close(bad)
		return
	case bad != nil:
		c.complain(bad, frame.Ref)
		return
	case frame.Type != "auth" && !c.authenticated():
		c.close(errUnauthorized)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	switch frame.Type {
	case "auth":
		c.authenticate(ctx, *frame.Token, frame.Ref)
	case "subscribe":
		if err := c.subscribe(ctx, c.session, frame.Videos, frame.Ref); err != nil {
			c.complain(c.refusal(err), frame.Ref)
		}
	case "unsubscribe":
		c.unsubscribe(frame.Videos, frame.Ref)
	case "ping":
		c.say("pong", nil, pongData{Ref: frame.Ref})
	}
	c.reply()
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
			c.close(p)
			return
		}
	}
	c.say("error", nil, errorData{Code: p.Code, Message: p.Title, Hint: p.Hint, Ref: ref})
	c.reply()
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
	}
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
	c.say("renewed", nil, expiresData{Expires: expires, Ref: ref})
}

// subscribe adds videos to the filter, if they are the user's. A video that is another's and one that does not exist
// are answered alike. It is called by one goroutine at a time, the only one that changes the filter.
func (c *connection) subscribe(ctx context.Context, session *hub.Session, videos []string, ref json.RawMessage) error {
	wider := set(videos)
	maps.Copy(wider, c.filter)
	if len(wider) > filterMost {
		return errTooManyVideos
	}
	// First the filter and then the question, so that what changes between the two is not missed. Of a video that turns
	// out not to be the user's, no event can come.
	session.Filter(copySet(wider))
	owned, err := session.Lookup(ctx, videos)
	if err != nil {
		session.Filter(copySet(c.filter))
		return err
	}
	unknown := []string{}
	for _, id := range videos {
		if _, ok := owned[id]; !ok && !slices.Contains(unknown, id) {
			unknown = append(unknown, id)
			delete(wider, id)
		}
	}
	c.setFilter(session, wider)
	c.say("subscribed", nil, subscribedData{Videos: sorted(wider), Unknown: unknown, Ref: ref})
	return nil
}

// unsubscribe takes videos out of the filter. Without a filter there is nothing to take out: the client has all its
// videos, and is told so by null.
func (c *connection) unsubscribe(videos []string, ref json.RawMessage) {
	data := subscribedData{Unknown: []string{}, Ref: ref}
	if c.filter != nil {
		narrower := copySet(c.filter)
		for _, id := range videos {
			delete(narrower, id)
		}
		c.setFilter(c.session, narrower)
		data.Videos = sorted(narrower)
	}
	c.say("subscribed", nil, data)
}

func (c *connection) setFilter(session *hub.Session, filter map[string]struct{}) {
	session.Filter(copySet(filter)) // which takes it over
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = filter
}

func copySet(s map[string]struct{}) map[string]struct{} { return maps.Clone(s) }

func sorted(s map[string]struct{}) []string {
	names := slices.Sorted(maps.Keys(s))
	if names == nil {
		return []string{}
	}
	return names
}

// members returns the set's members, or nil for nil.
func members(s map[string]struct{}) []string {
	if s == nil {
		return nil
	}
	return sorted(s)
}
