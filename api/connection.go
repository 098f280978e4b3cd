package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/olahol/melody"
	"golang.org/x/time/rate"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

const (
	// inFlightMost is how many frames lie in melody at once: one that is being written, and one to follow it. melody's
	// buffer is of this size; what it cannot take it drops, so no more is ever given.
	inFlightMost = 2
	// repliesMost bounds the gateway's own frames that wait for a client that does not read.
	repliesMost = 64
	// authLimit is how long a connection may go without a token.
	authLimit = 5 * time.Second
	// expiringBefore is how long before its end a session is told.
	expiringBefore = 60 * time.Second
	// closeGrace is how long a closed connection waits for the client's side of it.
	closeGrace = 2 * time.Second
	// readLimit is how long Attach, a snapshot and the like may take in all.
	readLimit = 10 * time.Second
	// framesPerSecond and framesBurst bound what a client may send.
	framesPerSecond = 10
	framesBurst     = 40
	// badFramesMost is how many frames in error end a connection.
	badFramesMost = 5
)

// connection is one WebSocket: it takes frames from its hub.Session at the speed at which the socket takes them.
type connection struct {
	server  *Server
	id      string
	query   query
	log     *slog.Logger
	limiter *rate.Limiter
	denied  *problem // unless nil, the connection is there to be told this, and closed
	bad     int      // frames in error; used by the reading goroutine alone

	mu        sync.Mutex
	socket    *melody.Session     // nil until upgraded; guarded by mu, as all below
	session   *hub.Session        // nil until authenticated
	principal auth.Principal      // of session
	filter    map[string]struct{} // nil: all videos
	own       [][]byte            // the gateway's frames, to be sent before further events
	numbered  int                 // own frames made
	inFlight  int                 // frames given to melody and not written yet
	placing   bool                // a goroutine gives the session a new place
	closing   bool                // no frame is sent any more
	timer     *time.Timer         // to the next of: no token in time, expiring, expired
}

func newConnection(s *Server, q query) *connection {
	id := newID()
	c := &connection{
		server: s, id: id, query: q, log: s.log.With("session", id),
		limiter: rate.NewLimiter(framesPerSecond, framesBurst),
	}
	if q.videos != nil {
		c.filter = set(q.videos)
	}
	return c
}

// owner is the only place where a token's user becomes an owner of events.
func owner(p auth.Principal) hub.Owner { return hub.Owner(p.User) }

// open attaches the connection to its user's events and queues its first frames. It is called once, before there is a
// socket or by the goroutine that reads it. Any error but a *problem means that events cannot be read for now.
func (c *connection) open(ctx context.Context, p auth.Principal) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	session, err := c.server.hub.Attach(ctx, owner(p), c.pump)
	if err != nil {
		return err
	}
	session.Filter(copySet(c.filter))
	if err := c.begin(ctx, session, p); err != nil {
		session.Close()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		session.Close()
		return errRestart
	}
	c.session, c.principal = session, p
	c.schedule()
	return nil
}

// begin places the session as the query asks, and queues ready and what belongs to it.
func (c *connection) begin(ctx context.Context, session *hub.Session, p auth.Principal) error {
	ready := readyData{
		Session: c.id, User: p.User, Heartbeat: pingEvery.Seconds(), Expires: p.Expires.UTC(), Replica: c.server.replica,
	}
	var cursor *hub.Cursor // nil while a snapshot follows, which has it: until that has come, all of it is missing
	var lost *hub.ErrReset
	switch after := c.query.after; {
	case after != nil:
		if err := session.Resume(ctx, *after); err != nil && !errors.As(err, &lost) {
			return err
		}
		ready.Resumed = lost == nil
		if lost == nil && !c.query.snapshot {
			cursor = after
		}
	case !c.query.snapshot:
		now, err := session.Live(ctx)
		if err != nil {
			return err
		}
		cursor = &now
	}
	c.say("ready", cursor, ready)
	if c.query.videos != nil {
		if err := c.subscribe(ctx, session, c.query.videos, nil); err != nil {
			return err
		}
	}
	if cursor != nil {
		return nil
	}
	return c.saySnapshot(ctx, session, lost)
}

// saySnapshot places the session at this moment and queues the rows; lost, unless nil, is why it needs a new place.
func (c *connection) saySnapshot(ctx context.Context, session *hub.Session, lost *hub.ErrReset) error {
	c.mu.Lock()
	videos := members(c.filter)
	c.mu.Unlock()
	snapshot, cursor, err := session.Snapshot(ctx, videos)
	if err != nil {
		return err
	}
	pages, err := snapshotPages(snapshot)
	if err != nil {
		return err
	}
	if lost != nil {
		// No cursor: until the last page has come, the old one is as good as any.
		c.say("reset", nil, resetData{Reason: lost.Reason})
	}
	for _, page := range pages {
		var end *hub.Cursor
		if page.Last {
			end = &cursor
		}
		c.say("snapshot", end, page)
	}
	return nil
}

// say queues a frame of the gateway's own; pump sends it. It reports how many are waiting.
func (c *connection) say(kind string, cursor *hub.Cursor, data any) (waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.numbered++
	c.own = append(c.own, encodeOwn(c.id, c.numbered, kind, cursor, data))
	return len(c.own)
}

// connected is called when the socket is there.
func (c *connection) connected(socket *melody.Session) {
	c.mu.Lock()
	c.socket = socket
	if c.session == nil && c.denied == nil {
		c.timer = time.AfterFunc(authLimit, c.tooLate)
	}
	closing := c.closing
	c.mu.Unlock()
	switch {
	case closing: // the server began to drain before there was a socket to be told
		_ = socket.WebsocketConnection().Close()
	case c.denied != nil:
		c.close(c.denied)
	default:
		c.pump()
	}
}

// pump gives frames to the socket for as long as it takes them. It does not block: it is called by the bus, by the
// socket when a frame has been written, and by whoever queues a frame.
func (c *connection) pump() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.socket != nil && !c.closing && c.inFlight < inFlightMost {
		frame := c.next()
		if frame == nil {
			return
		}
		c.inFlight++
		if err := c.socket.Write(frame); err != nil {
			return // the socket has ended, and disconnected follows
		}
	}
}

// next takes the next frame, or returns nil if there is none for now. c.mu is held.
func (c *connection) next() []byte {
	if len(c.own) > 0 {
		frame := c.own[0]
		c.own = c.own[1:]
		if len(c.own) == 0 {
			c.own = nil
		}
		return frame
	}
	if c.session == nil || c.placing {
		return nil
	}
	event, id, err := c.session.Next()
	var lost *hub.ErrReset
	switch {
	case errors.As(err, &lost):
		c.placing = true
		c.server.tasks.Go(func() { c.replace(c.session, lost) })
		return nil
	case err != nil || event == nil:
		return nil
	}
	return event.Frame(id, encodeEvent)
}

// replace gives a session that has lost its place a new one, with a snapshot.
func (c *connection) replace(session *hub.Session, lost *hub.ErrReset) {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	if err := c.saySnapshot(ctx, session, lost); err != nil {
		c.close(c.refusal(err))
		return
	}
	c.mu.Lock()
	c.placing = false
	c.mu.Unlock()
	c.pump()
}

// sent is called when melody has written a frame.
func (c *connection) sent() {
	c.mu.Lock()
	c.inFlight--
	c.mu.Unlock()
	c.pump()
}

// schedule sets the timer to the next thing that time brings. c.mu is held.
func (c *connection) schedule() {
	if c.timer != nil {
		c.timer.Stop()
	}
	until := time.Until(c.principal.Expires)
	if warn := until - expiringBefore; warn > 0 {
		c.timer = time.AfterFunc(warn, c.expiring)
		return
	}
	c.timer = time.AfterFunc(max(0, until+c.server.verifier.Leeway()), c.expired)
}

func (c *connection) expiring() {
	c.mu.Lock()
	expires := c.principal.Expires.UTC()
	c.schedule()
	c.mu.Unlock()
	c.say("expiring", nil, expiresData{Expires: expires})
	c.pump()
}

func (c *connection) expired() {
	c.mu.Lock()
	fresh := time.Until(c.principal.Expires) > 0 // a fresh token came while this timer fired
	c.mu.Unlock()
	if !fresh {
		c.close(errTokenExpired)
	}
}

func (c *connection) tooLate() {
	c.mu.Lock()
	open := c.session != nil
	c.mu.Unlock()
	if !open {
		c.close(errAuthTimeout)
	}
}

// close tells the client why and ends the connection. It does not block for long, and not on c.mu: frames that have
// not been written are dropped, since the cursor brings them back.
func (c *connection) close(why *problem) {
	c.mu.Lock()
	again := c.closing
	c.closing = true
	socket := c.socket
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	if again || socket == nil {
		return
	}
	c.server.metrics.closes.WithLabelValues(why.Code).Inc()
	conn := socket.WebsocketConnection()
	// Not melody's own: it would wait behind frames in its buffer, and be dropped where that is full. Of this one, no
	// more than the deadline is waited for, so that a client that reads nothing is cut off.
	deadline := time.Now().Add(closeGrace)
	if err := conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(why.Close, why.Code), deadline); err != nil {
		_ = conn.Close()
		return
	}
	// The client answers with a close frame of its own, which ends the reading side; or it does not, and this does.
	_ = conn.SetReadDeadline(deadline)
}

// refusal finds how to tell of an error, and logs what is nobody's fault but ours.
func (c *connection) refusal(err error) *problem {
	p := problemOf(err)
	if p == errInternal {
		// Nothing but Postgres and the bus can fail here, and both come back.
		c.log.Warn("events cannot be read", "err", err)
		return errUnavailable
	}
	return p
}

// disconnected is called when the socket has ended.
func (c *connection) disconnected() {
	c.mu.Lock()
	c.closing = true
	c.own = nil
	session := c.session
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	if session != nil {
		session.Close()
	}
}

func set(names []string) map[string]struct{} {
	s := make(map[string]struct{}, len(names))
	for _, name := range names {
		s[name] = struct{}{}
	}
	return s
}
