package api

import "time"

// after sets the connection's one timer, which replaces what it was set to before. c.mu is held.
func (c *connection) after(d time.Duration, f func()) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() { c.tracked(f) })
}

// schedule sets the timer to the next thing that a token's life brings. c.mu is held.
//
// Clocks of the wall jump, and timers do not, and a timer that has fired cannot be stopped: so what it calls looks at
// the clock again, and schedules again if its time has not come.
func (c *connection) schedule() {
	if c.closing {
		return // the timer is set to cut
	}
	if warn := time.Until(c.principal.Expires) - expiringBefore; warn > 0 {
		c.after(warn, c.expiring)
		return
	}
	c.after(max(0, c.remaining()), c.expired)
}

// remaining is how long the session may still last. c.mu is held.
func (c *connection) remaining() time.Duration {
	return time.Until(c.principal.Expires) + c.server.verifier.Leeway()
}

func (c *connection) expiring() {
	c.mu.Lock()
	expires := c.principal.Expires.UTC()
	early := time.Until(expires) > expiringBefore
	c.schedule()
	c.mu.Unlock()
	if !early {
		c.say("expiring", nil, expiresData{Expires: expires})
		c.out.wake()
	}
}

func (c *connection) expired() {
	c.mu.Lock()
	early := c.remaining() > 0
	if early {
		c.schedule()
	}
	c.mu.Unlock()
	if !early {
		c.close(errTokenExpired)
	}
}

func (c *connection) tooLate() {
	c.mu.Lock()
	open := c.principal.User != "" // or about to be: the log may take its time
	c.mu.Unlock()
	if !open {
		c.close(c.server.reached(limitAuth))
	}
}
