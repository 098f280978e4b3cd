package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// server is an HTTP server of this process.
type server struct {
	http    *http.Server
	address string
	done    chan struct{}
	failure error // set before done is closed
}

// serveHTTP serves until stop.
func serveHTTP(listener net.Listener, handler http.Handler) *server {
	s := &server{
		http:    &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second},
		address: listener.Addr().String(),
		done:    make(chan struct{}),
	}
	go func() { // stop waits for its end
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failure = fmt.Errorf("serve %s: %w", s.address, err)
		}
	}()
	return s
}

// err returns why the server ended, once done is closed.
func (s *server) err() error { return s.failure }

// stop lets requests that are under way end, and cuts off what has not ended in a second.
func (s *server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	<-s.done
	return nil
}
