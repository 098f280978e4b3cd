package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

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
	// expiringBefore is how long before its end a session is told.
	expiringBefore = 60 * time.Second
	// closeGrace is how long a connection that closes waits: for the frames in flight, and for the client's side of it.
	closeGrace = 2 * time.Second
	// readLimit is how long Attach, a snapshot and the like may take in all.
	readLimit = 10 * time.Second
	// frameBurst is how many seconds' worth of frames a client may send at once.
	frameBurst = 4
	// badFramesMost is how many frames in error end a connection.
	badFramesMost = 5
)

// connection is one WebSocket: it takes frames from its hub.Session at the speed at which the socket takes them.
//
// Locks: mu may be held when a session's, a feed's or a melody session's lock is taken, never the other way round, and
// not across I/O: pump, which the bus calls, must not wait for any client.
type connection struct {
	server  *Server
	id      string
	query   query
	log     *slog.Logger
	limiter *rate.Limiter
	wire    *wire
	denied  *problem // unless nil, the connection is there to be told this, and closed
	bad     int      // frames in error; used by the reading goroutine alone
	// ctx is done when the connection closes, so that what is being read for it ends too.
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	socket    *melody.Session // nil until upgraded; guarded by mu, as all below
	session   *hub.Session    // nil until authenticated
	principal auth.Principal  // of the last good token; zero while there was none
	filter    map[string]bool // nil: all videos; false: not the user's any more, so that only its last events can come
	own       [][]byte        // the gateway's frames, to be sent before further events
	numbered  int             // own frames made
	inFlight  int             // frames given to melody and not written yet
	moved     time.Time       // when a frame was last given to an idle socket, or written
	placing   bool            // a goroutine gives the session a new place
	closing   bool            // no event is given to melody, and no frame queued any more
	why       *problem        // what the client is told when the frames in flight are written; nil when that is done
	ended     bool            // the socket has ended, or never came to be
	leaves    []func()        // give back what the connection was admitted to
	timer     *time.Timer     // to the next of: no token in time, expiring, expired, cut off
}

func newConnection(s *Server, q query) *connection {
	id := newID()
	c := &connection{
		server: s, id: id, query: q, log: s.log.With("session", id),
		limiter: newFrameLimiter(s.limits), wire: &wire{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wire.late = func() { c.tracked(func() { c.close(errFrameTimeout) }) }
	for _, id := range q.videos {
		if c.filter == nil {
			c.filter = make(map[string]bool)
		}
		c.filter[id] = true
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
	leave, l := c.server.admission.attach(p.User)
	if l != "" {
		return c.server.reached(l)
	}
	c.mu.Lock()
	c.principal = p
	if c.leaves = append(c.leaves, leave); c.ended {
		defer leave()
	}
	c.mu.Unlock()
	if err := c.stillGood(); err != nil {
		return err
	}
	session, err := c.server.hub.Attach(ctx, owner(p), c.pump, hub.Options{Conflate: c.query.conflate})
	if err != nil {
		return err
	}
	if err := c.begin(ctx, session, p); err != nil {
		session.Close()
		return err
	}
	c.mu.Lock()
	closing := c.closing
	if !closing {
		c.session = session // closed by disconnected from here on
	}
	c.mu.Unlock()
	if closing {
		session.Close()
		return errRestart
	}
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
	if c.filter != nil {
		if err := c.confirmFilter(ctx, session, ready.Resumed); err != nil {
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
	videos := known(c.filter)
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

// say queues a frame of the gateway's own; pump sends it.
func (c *connection) say(kind string, cursor *hub.Cursor, data any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.numbered++
	c.own = append(c.own, encodeOwn(c.id, c.numbered, kind, cursor, data))
}

// connected is called when the socket is there, before it is read.
func (c *connection) connected(socket *melody.Session) {
	defer func() { c.survived(recover()) }()
	conn := socket.WebsocketConnection()
	conn.SetPingHandler(func(data string) error { c.pinged(conn, data); return nil })
	conn.SetCloseHandler(func(code int, _ string) error { c.parting(conn, code); return nil })
	c.mu.Lock()
	c.socket = socket
	closing := c.closing // the server began to drain before there was a socket to be told
	switch {
	case closing:
		c.after(closeGrace, c.cut)
	case c.session != nil:
		c.schedule()
	case c.denied == nil:
		c.after(c.server.limits.AuthTimeout, c.tooLate)
	}
	c.mu.Unlock()
	switch {
	case closing:
		c.sayWhy()
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
	for c.socket != nil && c.inFlight < inFlightMost {
		frame := c.next()
		if frame == nil {
			return
		}
		if c.inFlight == 0 {
			c.moved = time.Now()
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
	if c.session == nil || c.placing || c.closing {
		return nil
	}
	event, id, err := c.session.Next()
	var lost *hub.ErrReset
	switch {
	case errors.As(err, &lost):
		c.placing = true
		session := c.session
		c.server.tasks.Go(func() { c.replace(session, lost) })
		return nil
	case err != nil || event == nil:
		return nil
	}
	return event.Frame(id, encodeEvent)
}

// replace gives a session that has lost its place a new one, with a snapshot.
func (c *connection) replace(session *hub.Session, lost *hub.ErrReset) {
	defer func() { c.survived(recover()) }()
	ctx, cancel := context.WithTimeout(c.ctx, readLimit)
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
	took := time.Since(c.moved)
	c.moved = time.Now()
	c.mu.Unlock()
	if took > slowAfter {
		c.close(errSlowConsumer) // it reads again, so it can be told
	}
	c.pump()
	c.sayWhy()
}

// refusal finds how to tell of an error, and logs what is nobody's fault but ours.
func (c *connection) refusal(err error) *problem {
	p := problemOf(err)
	if p != errInternal {
		return p
	}
	// Nothing but Postgres and the bus can fail here, and both come back.
	if !errors.Is(err, context.Canceled) { // which says that the client has gone, or we are going
		c.log.Warn("events cannot be read", "err", err)
	}
	return errUnavailable
}
