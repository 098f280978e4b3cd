package redisbus_test

import (
	"encoding/base64"
	"fmt"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/reelay/reelay/hub"
)

// control is the channel of marks, and channelsOf returns those of which one is an owner's.
const control = "reelay:{0}:control"

func channelsOf(owner hub.Owner) (channels []string) {
	for tag := range 16 {
		channels = append(channels,
			fmt.Sprintf("reelay:{%x}:o:%s", tag, base64.RawURLEncoding.EncodeToString([]byte(owner))))
	}
	return channels
}

// heard is one message as somebody else sees it.
type heard struct{ channel, message string }

// spy is who gets at Redis, and has no secret: it hears everything, and can publish anything.
type spy struct {
	client *redis.Client

	mu    sync.Mutex
	heard []heard // guarded by mu
}

// newSpy returns a spy that hears everything from now on.
func newSpy(t *testing.T, url string) *spy {
	t.Helper()
	s := &spy{client: admin(t, url)}
	everything := s.client.PSubscribe(t.Context(), "*")
	if _, err := everything.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			message, err := everything.ReceiveMessage(t.Context())
			if err != nil {
				return
			}
			s.mu.Lock()
			s.heard = append(s.heard, heard{message.Channel, message.Payload})
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = everything.Close()
		<-ended
	})
	return s
}

func (s *spy) publish(t *testing.T, channel string, message []byte) {
	t.Helper()
	if err := s.client.Publish(t.Context(), channel, message).Err(); err != nil {
		t.Fatal(err)
	}
}

// all returns what was heard so far.
func (s *spy) all() []heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]heard(nil), s.heard...)
}

// last waits for a message on one of the channels that nobody repeated, and returns the last.
func (s *spy) last(t *testing.T, channels ...string) (found heard) {
	t.Helper()
	eventually(t, "a message is overheard", func() bool {
		for _, h := range s.all() {
			for _, channel := range channels {
				if h.channel == channel {
					found = h
				}
			}
		}
		return found.channel != ""
	})
	return found
}
