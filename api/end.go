package api

import (
	"fmt"
)

// How a connection ends:
//
//	open ── close(why) ──▶ closing: no further event is given to the transport. When what it has is written, it tells the
//	  │                    client why, and ends.
//	  │                      │ closeGrace after close, whatever the client does: cut
//	  ▼                      ▼
//	ended ◀────────── disconnected, by the goroutine that reads the client

// close ends the connection and has the client told why, at once if the transport is idle. It does not block. Frames that
// were not given to the transport are dropped: the cursor brings them back. To close again changes nothing.
func (c *connection) close(why *problem) {
	c.mu.Lock()
	if !c.closing {
		c.own = nil
	}
	c.mu.Unlock()
	c.closeAnswered(why)
}

// closeAnswered closes after what has been said, such as the answers to what the client did wrong before.
func (c *connection) closeAnswered(why *problem) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.closing, c.why = true, why
	if c.transport != nil {
		c.after(closeGrace, c.transport.cut)
	}
	c.mu.Unlock()
	c.cancel()
	c.server.metrics.closes.WithLabelValues(why.Code).Inc()
	c.out.wake()
}

// waiting tells whether frames wait for the client to take them.
func (c *connection) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight
}

// disconnected is called when the transport has ended, or did not come to be; by the goroutine that reads the client, as
// its last act.
func (c *connection) disconnected() {
	c.mu.Lock()
	c.closing, c.ended, c.why, c.own = true, true, nil, nil
	session := c.session
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.server.admission.leave(&c.stay)
	c.cancel()
	if session != nil {
		session.Close()
	}
}

// survived is told what recover returned, and keeps a panic to the connection it happened in.
func (c *connection) survived(value any) {
	if value != nil {
		c.server.metrics.panics.Inc()
		c.log().Error("panic in a connection", "panic", fmt.Sprint(value), "stack", stack())
		c.close(errInternal)
	}
}

// tracked runs f, and has Server.Run wait for it; unless the connection has ended.
func (c *connection) tracked(f func()) {
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.server.tasks.Add(1) // the connection is registered until it has ended, so Run is not through waiting yet
	}
	c.mu.Unlock()
	if !ended {
		defer c.server.tasks.Done()
		f()
	}
}
