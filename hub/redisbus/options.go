package redisbus

import (
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// ioTimeout bounds each step on a connection that has an answer: to connect, to write, to read a reply.
const ioTimeout = 500 * time.Millisecond

// settings turns a URL into options for whatever is to be done at that Redis. What the URL says of timeouts and retries is overruled: the
// promises of this package rest on them. Its errors never quote the URL, whose parts may hold the password in places
// where nobody expects it.
func settings(rawURL string) (*redis.Options, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the Redis URL is not a URL; " +
			"a special character in the password must be written as %XX")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	default:
		return nil, errors.New("the Redis URL must begin with redis://, rediss:// or unix://")
	}
	options, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, errors.New("the Redis URL is not understood; it should look like " +
			"redis://user:password@host:6379/0 or unix:///path/to/redis.sock")
	}
	options.Protocol = 2 // version 3 has lost messages
	options.MaxRetries = -1
	options.DialerRetries = 1
	options.DialTimeout = ioTimeout
	options.ReadTimeout = ioTimeout
	options.WriteTimeout = ioTimeout
	options.PoolTimeout = ioTimeout
	options.ContextTimeoutEnabled = true
	options.DisableIdentity = true
	options.PipelinePoolSize = -1
	options.MinIdleConns = 0
	options.ConnMaxLifetime = 0
	return options, nil
}

// check says what is wrong with a configuration, and fills in what it leaves out. It returns how to connect.
func (c *Config) check() (*redis.Options, error) {
	if c.Key == nil {
		return nil, errors.New("what goes over Redis has to be signed, and Key is missing")
	}
	if c.Prefix == "" {
		c.Prefix = "reelay"
	}
	if !validPrefix(c.Prefix) {
		return nil, errors.New("the Redis prefix must be 1 to 64 letters, digits, or one of . : _ -")
	}
	return settings(c.URL)
}

// quiet silences go-redis, whose logger is global and writes to standard error. This package is its only home, and
// returns or logs every error itself.
var quiet = sync.OnceFunc(logging.Disable)
