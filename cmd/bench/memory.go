package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// settleFor is how long a gateway may take to give memory that it does not use back to the system.
const settleFor = 20 * time.Second

// memory measures what an idle, authenticated client costs the gateway, with crowds of all sizes.
func memory(ctx context.Context, o options) (*table, error) {
	t := &table{
		Name: "memory", Title: "resident memory of a replica for each idle, authenticated connection, in KB",
		Columns: []column{
			{"transport", "transport", 0},
			{"connections", "connections", 0},
			{"connects", "connects/s", 0},
			{"rss", "RSS KB each", 1},
			{"collected", "collected: RSS KB each", 1},
			{"alloc", "heap KB each", 1},
			{"inuse", "heap in use KB each", 1},
			{"stacks", "stacks KB each", 1},
			{"goroutines", "goroutines each", 1},
		},
	}
	if o.unfit != "" {
		t.Notes = append(t.Notes, o.unfit)
	}
	for _, transport := range []string{"WebSocket", "event stream"} {
		for _, size := range o.sizes {
			o.progress.stepf("%d connections, %s", size, transport)
			r, err := memoryOf(ctx, o, transport, size)
			if err != nil {
				return nil, err
			}
			t.add(r)
		}
	}
	return t, nil
}

// memoryOf measures so many clients of one transport, on a gateway of their own.
func memoryOf(ctx context.Context, o options, transport string, size int) (row, error) {
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
	conns, err := dialAll(ctx, g, transports[transport], size)
	defer func() {
		for _, c := range conns {
			if c != nil {
				hangUp(c)
			}
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
	collected, err := g.collected(ctx)
	if err != nil {
		return nil, err
	}
	n := float64(len(conns))
	each := func(bytes float64) float64 { return bytes / n / 1024 }
	r := row{
		"transport": transport, "connections": len(conns), "connects": n / took.Seconds(),
		"rss": each(natural - before), "collected": each(collected - before),
	}
	for column, name := range map[string]string{
		"alloc": "go_memstats_heap_alloc_bytes", "inuse": "go_memstats_heap_inuse_bytes", "stacks": "go_memstats_stack_inuse_bytes",
	} {
		bytes, err := g.metric(ctx, name)
		if err != nil {
			return nil, err
		}
		r[column] = each(bytes)
	}
	goroutines, err := g.metric(ctx, "go_goroutines")
	r["goroutines"] = goroutines / n
	return r, err
}

// collected collects garbage, and returns the lowest resident memory of the time it takes to settle.
func (g *gateway) collected(ctx context.Context) (float64, error) {
	lowest := 0.0
	for deadline := time.Now().Add(settleFor); time.Now().Before(deadline); pause(ctx, time.Second) {
		// The profile of the heap with gc=1 collects first. More than once: finalizers and pools need a second one.
		if _, err := fetch(ctx, "http://"+g.admin+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return 0, err
		}
		resident, err := g.metric(ctx, "process_resident_memory_bytes")
		if err != nil {
			return 0, err
		}
		if lowest == 0 || resident < lowest {
			lowest = resident
		}
	}
	return lowest, ctx.Err()
}

// dial connects one client, and returns when it has its first frame.
type dial func(ctx context.Context, dialer *net.Dialer, g *gateway, bearer string) (net.Conn, error)

// transports are the ways to be connected.
var transports = map[string]dial{
	"WebSocket":    dialSocket,
	"event stream": dialStream,
}

// dialAll connects so many clients, ten to a user.
func dialAll(ctx context.Context, g *gateway, dial dial, n int) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
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
				if conns[i], err = dial(ctx, &net.Dialer{LocalAddr: source(i)}, g, bearer); err != nil {
					conns[i] = nil
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
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

func dialSocket(ctx context.Context, dialer *net.Dialer, g *gateway, bearer string) (net.Conn, error) {
	d := websocket.Dialer{NetDialContext: dialer.DialContext, ReadBufferSize: 512, WriteBufferSize: 512}
	conn, response, err := d.DialContext(ctx, "ws://"+g.public+"/events?snapshot=0", http.Header{"Authorization": {"Bearer " + bearer}})
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	if _, _, err := conn.ReadMessage(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.NetConn(), nil
}

func dialStream(ctx context.Context, dialer *net.Dialer, g *gateway, bearer string) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", g.public)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET /events?snapshot=0 HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n", g.public, bearer)
	for lines := bufio.NewReaderSize(conn, 512); err == nil; {
		var line string
		if line, err = lines.ReadString('\n'); strings.HasPrefix(line, "data:") {
			return conn, nil
		}
	}
	return nil, errors.Join(err, conn.Close())
}
