// Package redistest gives each test a Redis of its own.
//
// A server per test, and not a database number per test: pub/sub ignores database numbers, so tests that share a server
// would hear each other.
package redistest

import (
	"context"
	"testing"

	"github.com/reelay/reelay/deploy/local"
)

// New starts a private Redis and stops it when the test ends. If redis-server is missing the test fails, except with
// -short, where it is skipped. The test may kill, pause and start the server as it likes.
func New(t testing.TB) *local.Redis {
	t.Helper()
	return NewWith(t, nil)
}

// NewWith is New with settings of redis.conf.
func NewWith(t testing.TB, settings map[string]string) *local.Redis {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Redis; -short is without servers")
	}
	redis, err := local.StartRedis(t.Context(), local.Options{Settings: settings})
	if err != nil {
		t.Fatalf("start a Redis: %v", err)
	}
	t.Cleanup(func() {
		if err := redis.Stop(context.Background()); err != nil {
			t.Errorf("stop the Redis: %v", err)
		}
	})
	return redis
}
