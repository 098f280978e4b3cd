package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// memory measures what an idle, authenticated WebSocket costs the gateway.
func memory(ctx context.Context, o options) (*table, error) {
	s, err := start(ctx, o, 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.stop(ctx) }()
	if _, err := s.db.ExecContext(ctx, "SELECT reelay.watch('videos')"); err != nil {
		return nil, err
	}
	g := s.gateways[0]
	before, err := g.metric(ctx, "process_resident_memory_bytes")
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	conns, err := dialAll(ctx, g, o.conns)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	took := time.Since(begin)
	natural, err := g.metric(ctx, "process_resident_memory_bytes")
	if err != nil {
		return nil, err
	}
	// The profile of the heap with gc=1 collects first. Twice: finalizers and pools need a second one.
	for range 2 {
		if _, err := fetch(ctx, "http://"+g.admin+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return nil, err
		}
	}
	heap, err := g.metric(ctx, "go_memstats_heap_inuse_bytes")
	if err != nil {
		return nil, err
	}
	stack, err := g.metric(ctx, "go_memstats_stack_inuse_bytes")
	if err != nil {
		return nil, err
	}
	goroutines, err := g.metric(ctx, "go_goroutines")
	if err != nil {
		return nil, err
	}
	n := float64(len(conns))
	t := &table{
		Name: "memory", Title: "resident memory of a replica for each idle, authenticated connection, in KB",
		Columns: []column{
			{"transport", "transport", 0},
			{"sockets", "sockets", 0},
			{"connects", "connects/s", 0},
			{"rss", "RSS KB each", 1},
			{"heap", "heap in use KB each, collected", 1},
			{"stacks", "stacks KB each", 1},
			{"goroutines", "goroutines each", 1},
		},
	}
	t.add(row{
		"transport": "WebSocket", "sockets": len(conns), "connects": n / took.Seconds(), "rss": (natural - before) / n / 1024,
		"heap": heap / n / 1024, "stacks": stack / n / 1024, "goroutines": goroutines / n,
	})
	return t, nil
}

// dialAll opens so many sockets, ten to a user, and waits for the first frame on each.
func dialAll(ctx context.Context, g *gateway, n int) ([]*websocket.Conn, error) {
	conns := make([]*websocket.Conn, n)
	errs := make(chan error, 64)
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for i := worker; i < n; i += 64 {
				bearer, err := token(fmt.Sprintf("user-%d", i/10))
				if err != nil {
					errs <- err
					return
				}
				// Twenty thousand ports are all that one address has: each ten thousand sockets come from another.
				dialer := websocket.Dialer{NetDialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/10000))}}).DialContext, ReadBufferSize: 512, WriteBufferSize: 512}
				conn, response, err := dialer.DialContext(ctx, "ws://"+g.public+"/events?snapshot=0", http.Header{"Authorization": {"Bearer " + bearer}})
				if err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
				_ = response.Body.Close()
				if _, _, err := conn.ReadMessage(); err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
				conns[i] = conn
			}
			errs <- nil
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return conns, err
		}
	}
	return conns, nil
}
