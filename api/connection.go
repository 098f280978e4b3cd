package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/reelay/reelay/auth"
	"github.com/reelay/reelay/hub"
)

const (
	// repliesMost bounds the gateway's own frames that wait for a client that does not read.
	repliesMost = 64
	// expiringBefore is how long before its end a session is told.
	expiringBefore = 60 * time.Second
	// closeGrace is how long a connection that closes waits: for the frames in flight, and for the client's side of it.
	closeGrace = 2 * time.Second
	// readLimit is how long Attach, a snapshot and the like may take in all.
	readLimit = 10 * time.Second
)

// connection is one client that follows its user's events: it takes frames from its hub.Session at the speed at which its
// transport takes them.
//
// Locks: mu may be held when a session's, a feed's or the outbox's lock is taken, never the other way round, and not
// across I/O. The bus only wakes the outbox, and so waits neither for a client nor for mu.
type connection struct {
	server *Server
	id     string
	query  query
	denied *problem // unless nil, the connection is there to be told this, and closed
	stay   stay     // what it was admitted to; used by whoever opens it, and by the goroutine that reads the client
	// ctx is done when the connection closes, so that what is being read for it ends too.
	ctx    context.Context
	cancel context.CancelFunc
	out    outbox

	mu        sync.Mutex
	transport transport       // nil until the client has been answered; guarded by mu, as all below
	session   *hub.Session    // nil until authenticated
	principal auth.Principal  // of the last good token; zero while there was none
	filter    map[string]bool // nil: all videos; false: not the user's any more, so that only its last events can come
	own       []frame         // the gateway's frames, to be sent before further events
	numbered  int             // own frames made
	inFlight  bool            // the transport writes frames
	placing   bool            // a goroutine gives the session a new place
	closing   bool            // no event is given to the transport, and no frame queued any more
	why       *problem        // what the client is told when all before it is written; nil when the transport has it
	ended     bool            // the transport has ended, or never came to be
	timer     *time.Timer     // to the next of: no token in time, expiring, expired, cut off
}

func newConnection(s *Server, q query) *connection {
	c := &connection{server: s, id: newID(), query: q}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.out.turn, c.out.writers = c.turn, s.writers
	for _, id := range q.videos {
		if c.filter == nil {
			c.filter = make(map[string]bool)
		}
		c.filter[id] = true
	}
	return c
}

// log returns a logger that names the connection. Few connections ever log, so none keeps one.
func (c *connection) log() *slog.Logger { return c.server.log.With("session", c.id) }

// owner is the only place where a token's user becomes an owner of events.
func owner(p auth.Principal) hub.Owner { return hub.Owner(p.User) }

// open attaches the connection to its user's events and queues its first frames. It is called once, before there is a
// socket or by the goroutine that reads it. Any error but a *problem means that events cannot be read for now.
func (c *connection) open(ctx context.Context, p auth.Principal) error {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	if l := c.server.admission.attach(&c.stay, p.User); l != "" {
		return c.server.reached(l)
	}
	c.mu.Lock()
	c.principal = p
	c.mu.Unlock()
	if err := c.stillGood(); err != nil {
		return err
	}
	session, err := c.server.hub.Attach(ctx, owner(p), c.out.wake, hub.Options{Conflate: c.query.conflate})
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
	if !c.server.hub.IsAvailable() { // it was announced before there was a session to be told
		c.say("error", nil, errorOf(errAway, nil))
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

// connected is called when the client has been answered, with what carries frames to it from now on.
func (c *connection) connected(t transport) {
	c.mu.Lock()
	c.transport = t
	switch {
	case c.closing: // the server began to drain before there was a way to tell
		c.after(closeGrace, t.cut)
	case c.session != nil:
		c.schedule()
	case c.denied == nil:
		c.after(c.server.limits.AuthTimeout, c.tooLate)
	}
	c.mu.Unlock()
	if c.denied != nil {
		c.close(c.denied)
	}
	c.out.open()
}

// turn has the transport write what there is now, and returns when that is written. It reports whether there may be more
// that was left for the next turn, and an error if nothing can be written any more. It is called by the outbox.
func (c *connection) turn(l *load) (more bool, err error) {
	defer func() { c.survived(recover()) }()
	defer l.reset()
	t := c.take(l)
	if l.isEmpty() {
		return false, nil
	}
	l.begun = time.Now()
	if err := t.write(l); err != nil {
		return false, err
	}
	if len(l.frames) > 0 {
		c.sent(time.Since(l.begun))
	}
	return l.isFull(), nil
}

// take takes for the transport what is to be written: some of it, if it is much. The rest stays where it is.
func (c *connection) take(l *load) transport {
	l.beat = c.out.beat.Swap(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !l.isFull() {
		f, ok := c.next()
		if !ok {
			break
		}
		l.add(f)
	}
	if len(c.own) == 0 {
		l.why, c.why = c.why, nil
	}
	c.inFlight = len(l.frames) > 0
	return c.transport
}

// next takes the next frame, and reports false if there is none for now. c.mu is held.
func (c *connection) next() (frame, bool) {
	if len(c.own) > 0 {
		f := c.own[0]
		c.own = c.own[1:]
		if len(c.own) == 0 {
			c.own = nil
		}
		return f, true
	}
	if c.session == nil || c.placing || c.closing {
		return frame{}, false
	}
	event, id, err := c.session.Next()
	var lost *hub.ErrReset
	switch {
	case errors.As(err, &lost):
		c.placing = true
		session := c.session
		c.server.tasks.Go(func() { c.replace(session, lost) })
		return frame{}, false
	case err != nil || event == nil:
		return frame{}, false
	}
	return frame{json: event.Frame(id, encodeEvent), cursor: id}, true
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
	c.out.wake()
}

// sent is called when the frames of a load have been written, with how long that took.
func (c *connection) sent(took time.Duration) {
	c.mu.Lock()
	c.inFlight = false
	c.mu.Unlock()
	if took > slowAfter {
		c.close(errSlowConsumer) // it reads again, so it can be told
	}
}

// refusal finds how to tell of an error, and logs what is nobody's fault but ours.
func (c *connection) refusal(err error) *problem {
	return c.server.refusal(c.log, err)
}

// refusal is the same for whoever has this log.
func (s *Server) refusal(log func() *slog.Logger, err error) *problem {
	p := problemOf(err)
	if p != errInternal {
		return p
	}
	// Nothing but Postgres and the bus can fail here, and both come back.
	if !errors.Is(err, context.Canceled) { // which says that the client has gone, or we are going
		log().Warn("events cannot be read", "err", err)
	}
	return errUnavailable
}
