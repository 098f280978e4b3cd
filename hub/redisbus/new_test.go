package redisbus_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reelay/reelay/hub/redisbus"
)

func TestNew_NeverShowsThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://user:hunter2@host:port/0",
		"redis://user:hun#hunter2@host:6379",
		"redis://user:hun?hunter2@host:6379",
		"redis://user:hunter2%zz@host:6379",
		"redis://user:x@host:6379/hunter2",
		"redis://user:x@host:6379/?hunter2=1",
		"hunter2://host:6379",
		"://hunter2@host",
		"user:hunter2@host:6379",
		"unix://user:hunter2@",
		"",
		"redis://user:hunter2@host:6379/\x7f",
	} {
		_, err := redisbus.New(redisbus.Config{URL: url, Key: secret})
		if err == nil {
			t.Errorf("New(%q) accepted it", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%q): the error shows the password: %v", url, err)
		}
	}
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"{x}", "a b", "a\nb", "*", strings.Repeat("x", 65)} {
		if _, err := redisbus.New(redisbus.Config{URL: "redis://localhost", Key: secret, Prefix: prefix}); err == nil {
			t.Errorf("New accepted the prefix %q", prefix)
		}
	}
	if _, err := redisbus.New(redisbus.Config{URL: "redis://localhost"}); err == nil {
		t.Error("New accepted a configuration without a key")
	}
	registry := prometheus.NewRegistry()
	if _, err := redisbus.New(redisbus.Config{URL: "redis://localhost", Key: secret, Metrics: registry}); err != nil {
		t.Errorf("New: %v", err)
	}
	if _, err := redisbus.New(redisbus.Config{URL: "redis://localhost", Key: secret, Metrics: registry}); err == nil {
		t.Error("New registered the same metrics twice without an error")
	}
}
