package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// fewDialers is how many connections are made at once where nothing is measured of it, and manyDialers where they
	// come all at once: about what a listening socket lets wait.
	fewDialers, manyDialers = 64, 2048
	// perAddress is how many sockets come from one address: it has about twenty-eight thousand ports to one other.
	perAddress = 20_000
	// settleLimit is how long to wait for events before they count as lost.
	settleLimit = 30 * time.Second
)

// crowd is clients: sockets with a goroutine each. What they receive they count, and compare with the ledger.
type crowd struct {
	ledger  *ledger
	sockets []*socket
	dialers int // how many connect at once
	// onEvent is called with each new event, by the socket's goroutine; nil for none.
	onEvent func(event, time.Time)
	// delivered is how many new events have arrived, at all sockets together.
	delivered atomic.Int64

	failed  chan error // the first that went wrong with a socket
	readers sync.WaitGroup
}

// socket is one client of a user.
type socket struct {
	tally
	user    int
	address string // host:port of its gateway
	bearer  string
	from    net.Addr
	log     string // the part of the cursor before the sequence; "" before the first connection
	leaving atomic.Bool
	ready   chan struct{} // closed when the gateway has said that what commits from now on arrives
	conn    *websocket.Conn
}

// newCrowd makes clients, a number of them for each user, spread over the gateways so that a user's clients are at one.
// join connects them.
func newCrowd(l *ledger, addresses []string, users []int, sockets int) (*crowd, error) {
	c := &crowd{ledger: l, dialers: fewDialers, failed: make(chan error, 1)}
	for i, user := range users {
		bearer, err := token(fmt.Sprintf("user-%d", user))
		if err != nil {
			return nil, err
		}
		for range sockets {
			c.sockets = append(c.sockets, &socket{user: user, address: addresses[i%len(addresses)], bearer: bearer, from: source(len(c.sockets))})
		}
	}
	return c, nil
}

// source returns the address that connection n comes from; nil leaves it to the kernel, which finds a free port faster
// when it knows where the connection goes.
func source(n int) net.Addr {
	if n < perAddress {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n/perAddress))}
}

// hangUp breaks a connection off. If it ended in order, the kernel would keep its port for a minute.
func hangUp(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// join connects all clients, as many at once as there are dialers, and returns when each is ready: those that have been
// connected before come back with their cursor.
func (c *crowd) join(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range c.dialers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(c.sockets)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := c.connect(ctx, c.sockets[i]); err != nil {
					cancel(fmt.Errorf("client %d of user %d: %w", i, c.sockets[i].user, err))
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, s := range c.sockets {
		select {
		case <-s.ready:
		case err := <-c.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *crowd) connect(ctx context.Context, s *socket) error {
	url := "ws://" + s.address + "/events?snapshot=0"
	if s.log != "" {
		url += fmt.Sprintf("&after=%s.%d", s.log, s.sequence.Load())
	}
	dialer := websocket.Dialer{
		NetDialContext: (&net.Dialer{LocalAddr: s.from}).DialContext, HandshakeTimeout: settleLimit,
		ReadBufferSize: 2048, WriteBufferSize: 512, WriteBufferPool: &writeBuffers,
	}
	conn, response, err := dialer.DialContext(ctx, url, http.Header{"Authorization": {"Bearer " + s.bearer}, bareUser: {strconv.Itoa(s.user)}})
	if err != nil {
		if response != nil {
			said, _ := io.ReadAll(io.LimitReader(response.Body, 512))
			err = fmt.Errorf("%w: %s: %s", err, response.Status, said)
		}
		return err
	}
	_ = response.Body.Close()
	s.conn, s.ready = conn, make(chan struct{})
	s.leaving.Store(false)
	c.readers.Go(func() {
		if err := c.read(s); !s.leaving.Load() {
			select {
			case c.failed <- fmt.Errorf("a client of user %d: %w", s.user, err):
			default: // the first says enough
			}
		}
	})
	return nil
}

var writeBuffers sync.Pool

// read is the life of one connection. It returns why it ended.
func (c *crowd) read(s *socket) error {
	frame := make([]byte, 0, 512)
	for {
		_, r, err := s.conn.NextReader()
		if err != nil {
			return err
		}
		if frame, err = appendAll(frame[:0], r); err != nil {
			return err
		}
		if e, ok := parseEvent(frame); ok {
			if s.take(e, s.user, c.ledger.each) {
				c.delivered.Add(1)
				if c.onEvent != nil {
					c.onEvent(e, time.Now())
				}
			}
			continue
		}
		if err := s.own(frame); err != nil {
			return err
		}
	}
}

// own takes a frame of the gateway's.
func (s *socket) own(frame []byte) error {
	var f struct{ Type, Cursor string }
	if err := json.Unmarshal(frame, &f); err != nil {
		return fmt.Errorf("read a frame: %w", err)
	}
	if f.Type != "reelay.ready" {
		return fmt.Errorf("an unexpected frame: %s", frame)
	}
	if s.log == "" {
		log, digits, _ := strings.Cut(f.Cursor, ".")
		sequence, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return fmt.Errorf("read the cursor %q: %w", f.Cursor, err)
		}
		s.log = log
		s.sequence.Store(sequence)
	}
	close(s.ready)
	return nil
}

// appendAll reads the rest of a message into a buffer that is used again and again.
func appendAll(to []byte, r io.Reader) ([]byte, error) {
	for {
		if len(to) == cap(to) {
			to = append(to, 0)[:len(to)]
		}
		n, err := r.Read(to[len(to):cap(to)])
		to = to[:len(to)+n]
		if errors.Is(err, io.EOF) {
			return to, nil
		}
		if err != nil {
			return to, err
		}
	}
}

// leave cuts all connections, as a network that fails does, and returns when all clients have seen it.
func (c *crowd) leave() {
	for _, s := range c.sockets {
		s.leaving.Store(true)
		if s.conn != nil {
			hangUp(s.conn.NetConn())
		}
	}
	c.readers.Wait()
}

// expected returns how many events have to arrive, at all sockets together, of what is committed by now.
func (c *crowd) expected() int64 {
	var n int64
	for _, s := range c.sockets {
		n += c.ledger.entries[s.user].count.Load()
	}
	return n
}

// forget begins to count anew: what was committed before concerns nobody. Nothing may be under way.
func (c *crowd) forget() {
	for i := range c.ledger.entries {
		e := &c.ledger.entries[i]
		e.count.Store(0)
		e.sum.Store(0)
	}
	c.ledger.total.Store(0)
}

// settle waits until everything that was committed has arrived, or is taken for lost.
func (c *crowd) settle(ctx context.Context) error {
	expected := c.expected()
	for deadline := time.Now().Add(settleLimit); c.delivered.Load() < expected; pause(ctx, time.Millisecond) {
		select {
		case err := <-c.failed:
			return err
		default:
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return ctx.Err()
		}
	}
	return nil
}

// wrong adds up what the clients did not get and what they got twice. An event of another user is an error.
func (c *crowd) wrong() (lost, twice int, err error) {
	for _, s := range c.sockets {
		lost += s.lost(&c.ledger.entries[s.user])
		twice += int(s.twice.Load())
		if n := s.foreign.Load(); n > 0 {
			err = errors.Join(err, fmt.Errorf("user %d received %d events of others", s.user, n))
		}
	}
	return lost, twice, err
}

// numbered returns the numbers from 0 up to n.
func numbered(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}
