package api

import (
	"encoding/json"

	"github.com/reelay/reelay/hub"
)

// say queues a frame of the gateway's own, to be sent when the outbox is woken.
func (c *connection) say(kind string, cursor *hub.Cursor, data any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.own = append(c.own, c.frame(kind, cursor, data))
}

// frame makes a frame of the gateway's own. c.mu is held.
func (c *connection) frame(kind string, cursor *hub.Cursor, data any) frame {
	c.numbered++
	f := frame{json: encodeOwn(c.id, c.numbered, kind, cursor, data)}
	if cursor != nil {
		f.cursor = *cursor
	}
	return f
}

// reply sends what was queued, or ends a connection that asks and does not read the answers.
func (c *connection) reply() {
	if c.isFull() {
		c.close(errSlowConsumer)
		return
	}
	c.out.wake()
}

// announce tells a session what concerns all of them. It does not block: there are others to be told.
func (c *connection) announce(p *problem) {
	if c.authenticated() {
		c.say("error", nil, errorOf(p, nil))
		c.reply()
	}
}

// isFull tells whether too many of the gateway's own frames wait for the client.
func (c *connection) isFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.own) > repliesMost
}

func errorOf(p *problem, ref json.RawMessage) errorData {
	return errorData{Code: p.Code, Message: p.Title, Hint: p.Hint, Ref: ref}
}

func (c *connection) authenticated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil
}
