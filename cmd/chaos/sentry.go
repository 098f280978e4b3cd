package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

const (
	// knockEvery is how often a replica is asked whether it is ready, and a session is opened to see whether that is so.
	knockEvery = 500 * time.Millisecond
	// knockLimit is how long a session may take to open; a client that waits longer is not being served.
	knockLimit = 3 * time.Second
)

// sentry watches one replica's word: does /readyz say yes when a client is served, and no when none is?
type sentry struct {
	replica *replica
	token   func(context.Context) (string, error)

	mu      sync.Mutex
	ready   bool      // what it said last; guarded by mu, as all below
	serves  bool      // what is true
	since   time.Time // when the two began to differ; zero while they do not
	longest time.Duration
}

// run watches until ctx ends.
func (s *sentry) run(ctx context.Context) {
	for ctx.Err() == nil {
		served := make(chan bool, 1)
		go func() { served <- s.knock(ctx) }() // waited for below
		ready := s.replica.ready(ctx)
		s.note(ready, <-served, time.Now())
		pause(ctx, knockEvery)
	}
}

func (s *sentry) note(ready, serves bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.serves = ready, serves
	switch {
	case ready == serves:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	default:
		s.longest = max(s.longest, now.Sub(s.since))
	}
}

// forget begins a new reckoning.
func (s *sentry) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = 0
	if !s.since.IsZero() {
		s.since = time.Now()
	}
}

// untruth returns for how long at a stretch the replica has not told the truth.
func (s *sentry) untruth() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest
}

// well says whether the replica is ready, says so, and serves.
func (s *sentry) well() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready && s.serves
}

// knock opens a session, and says whether it was told that events will come.
func (s *sentry) knock(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, knockLimit)
	defer cancel()
	token, err := s.token(ctx)
	if err != nil {
		return false
	}
	socket, err := dialSession(ctx, s.replica.public, token, url.Values{"snapshot": {"0"}})
	if err != nil {
		return false
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	frame, err := readFrame(socket)
	return err == nil && frame.Type == client.TypeReady
}

// dialSession opens a WebSocket with small buffers, for those that need less, or more, than a client.
func dialSession(ctx context.Context, address, token string, query url.Values) (*websocket.Conn, error) {
	dialer := websocket.Dialer{ReadBufferSize: 1 << 10, WriteBufferSize: 256, HandshakeTimeout: 30 * time.Second}
	target := url.URL{Scheme: "ws", Host: address, Path: "/events", RawQuery: query.Encode()}
	socket, response, err := dialer.DialContext(ctx, target.String(), http.Header{"Authorization": {"Bearer " + token}})
	if response != nil {
		_ = response.Body.Close()
	}
	return socket, err
}

func readFrame(socket *websocket.Conn) (f client.Frame, err error) {
	_, raw, err := socket.ReadMessage()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(raw, &f)
}
