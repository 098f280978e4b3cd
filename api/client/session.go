package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	subprotocol = "reelay.v1"
	// readyTimeout is how long a gateway may take from the handshake to reelay.ready: it waits for Postgres in between.
	readyTimeout = 15 * time.Second
	// heartbeatGrace is what a ping may be late by, on top of a whole one that was lost.
	heartbeatGrace = 5 * time.Second
	writeTimeout   = 10 * time.Second
	// closeTimeout bounds the farewell: whoever cancels wants to be gone.
	closeTimeout = time.Second
)

// connection is one WebSocket, from the handshake to its end. It belongs to the goroutine of Run, but for what is said
// otherwise.
type connection struct {
	client *Client
	socket *websocket.Conn
	// silence is how long nothing may come before the connection counts as dead.
	silence time.Duration
	// liveAt is when reelay.ready came; zero before.
	liveAt time.Time

	renewing atomic.Bool
	// renewals waits for the goroutine that fetches a token while the connection is live.
	renewals sync.WaitGroup
}

// connect makes one connection and follows it to its end. It returns how long it was live and why it ended.
func (c *Client) connect(ctx context.Context, handle func(context.Context, Frame) error) (live time.Duration, err error) {
	c.report(Status{State: Connecting})
	if c.token == "" && c.config.Token != nil {
		if c.token, err = c.config.Token(ctx); err != nil {
			return 0, fmt.Errorf("get a token: %w", err)
		}
	}
	socket, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	conn := &connection{client: c, socket: socket, silence: readyTimeout}
	parted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(parted)
		conn.part(websocket.CloseNormalClosure, "")
	})
	ctx, cancel := context.WithCancel(ctx)
	err = conn.follow(ctx, handle)
	if stop() {
		code, reason := farewell(err)
		conn.part(code, reason)
	} else {
		<-parted
	}
	cancel()
	conn.renewals.Wait()
	if !conn.liveAt.IsZero() {
		// At least one tick, so that a connection that was live for an instant is told from one that never was.
		live = max(time.Since(conn.liveAt), 1)
	}
	return live, err
}

// dial makes the handshake.
func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	header := c.config.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	dialer := *c.config.Dialer
	dialer.Subprotocols = []string{subprotocol}
	release := cancelHandshake(ctx, &dialer)
	socket, response, err := dialer.DialContext(ctx, c.address(), header) //nolint:bodyclose // the library has read it and needs no Close
	release()
	if errors.Is(err, websocket.ErrBadHandshake) && response != nil {
		return nil, readHTTPError(response)
	}
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	socket.SetReadLimit(c.config.ReadLimit)
	return socket, nil
}

// cancelHandshake makes the dialer give up when ctx ends while it waits for the answer to its request. The library
// watches ctx only until the connection stands, and would sit there until its own timeout.
func cancelHandshake(ctx context.Context, dialer *websocket.Dialer) (release func()) {
	var stops []func() bool
	watch := func(conn net.Conn, err error) (net.Conn, error) {
		if err == nil {
			stops = append(stops, context.AfterFunc(ctx, func() { _ = conn.Close() }))
		}
		return conn, err
	}
	plain := dialer.NetDialContext
	if plain == nil && dialer.NetDial != nil {
		plain = func(_ context.Context, network, address string) (net.Conn, error) {
			return dialer.NetDial(network, address)
		}
	}
	if plain == nil {
		plain = (&net.Dialer{}).DialContext
	}
	dialer.NetDialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return watch(plain(ctx, network, address))
	}
	if secure := dialer.NetDialTLSContext; secure != nil {
		dialer.NetDialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return watch(secure(ctx, network, address))
		}
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// follow reads frames and hands them over until the connection ends, handle returns an error, or ctx ends.
func (conn *connection) follow(ctx context.Context, handle func(context.Context, Frame) error) error {
	conn.socket.SetPingHandler(func(payload string) error {
		conn.heard()
		// A pong that cannot be written is no news: the next read says what is wrong.
		_ = conn.socket.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(writeTimeout))
		return nil
	})
	for {
		// The deadline is set here and not when the last frame came: handle may have taken its time.
		conn.heard()
		kind, raw, err := conn.socket.ReadMessage()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("nothing heard for %s: %w", conn.silence, err)
		}
		if err != nil {
			return readError(err)
		}
		if kind != websocket.TextMessage {
			return &CloseError{Code: websocket.CloseUnsupportedData, Reason: "binary frame"}
		}
		frame := Frame{Raw: raw}
		if err := json.Unmarshal(raw, &frame); err != nil {
			return &CloseError{Code: websocket.CloseInvalidFramePayloadData, Reason: "frame is no CloudEvent"}
		}
		if err := conn.take(ctx, frame, handle); err != nil {
			return err
		}
	}
}

// take handles one frame, and then moves the cursor.
func (conn *connection) take(ctx context.Context, frame Frame, handle func(context.Context, Frame) error) error {
	c := conn.client
	switch frame.Type {
	case TypeReady:
		session, err := readSession(frame)
		if err != nil {
			return &CloseError{Code: websocket.CloseInvalidFramePayloadData, Reason: "unreadable " + TypeReady}
		}
		conn.liveAt = time.Now()
		conn.silence = 2*session.Heartbeat + heartbeatGrace
		c.log.InfoContext(ctx, "connected", "session", session.ID, "replica", session.Replica, "resumed", session.Resumed)
		c.report(Status{State: Live, Session: session})
	case TypeExpiring:
		conn.renew(ctx)
	}
	if err := handle(ctx, frame); err != nil {
		return &handlerError{frame: frame, err: err}
	}
	switch frame.Type {
	case TypeReset:
		c.owed = true
	case TypeSnapshot:
		var page struct {
			Last bool `json:"last"`
		}
		_ = frame.Decode(&page) // a page that cannot be read is not the last one
		c.owed = !page.Last
	}
	if cursor := frame.moves(); cursor != "" {
		c.cursor.Store(&cursor)
	}
	return nil
}

// heard starts the time of silence anew.
func (conn *connection) heard() {
	// An error means that the socket is closed, and the next read says so.
	_ = conn.socket.SetReadDeadline(time.Now().Add(conn.silence))
}

// renew gets a new token and shows it to the gateway, so that the connection outlives the token it began with. What
// does not work out here is made good by the gateway: it closes with 3000.
func (conn *connection) renew(ctx context.Context) {
	c := conn.client
	if c.config.Token == nil || !conn.renewing.CompareAndSwap(false, true) {
		return
	}
	old := c.token
	// On a goroutine of its own, since a slow token endpoint must not hold up events. connect waits for its end, and
	// reads c.token only after that. It is the only writer of data frames.
	conn.renewals.Go(func() {
		defer conn.renewing.Store(false)
		token, err := c.config.Token(ctx)
		if err != nil {
			c.log.WarnContext(ctx, "token not renewed", "err", err)
			return
		}
		if token == old {
			c.log.DebugContext(ctx, "token not renewed: it is the same as before")
			return
		}
		c.token = token
		_ = conn.socket.SetWriteDeadline(time.Now().Add(writeTimeout))
		err = conn.socket.WriteJSON(map[string]string{"type": "auth", "token": token})
		if err != nil {
			c.log.WarnContext(ctx, "new token not sent", "err", err)
		}
	})
}

// part says goodbye and closes the socket. It may be called while another goroutine reads or writes.
func (conn *connection) part(code int, reason string) {
	if code != 0 {
		message := websocket.FormatCloseMessage(code, reason)
		_ = conn.socket.WriteControl(websocket.CloseMessage, message, time.Now().Add(closeTimeout))
	}
	_ = conn.socket.Close()
}

// farewell returns what to tell the gateway at the end of a connection; 0 where it said goodbye itself or is gone.
func farewell(err error) (code int, reason string) {
	var closed *CloseError
	var handled *handlerError
	switch {
	case errors.As(err, &handled):
		return websocket.CloseNormalClosure, ""
	case errors.As(err, &closed):
		return closed.Code, closed.Reason
	}
	return 0, ""
}
