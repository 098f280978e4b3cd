package client

import "time"

// WithoutJitter makes every delay the longest it can be, so that a test can name it.
func (c *Client) WithoutJitter() { c.jitter = func(limit time.Duration) time.Duration { return limit } }
