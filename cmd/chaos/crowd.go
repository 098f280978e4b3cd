package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

const (
	// crowdType is the type of the events that crowds are sent.
	crowdType = "chaos.crowd"
	// arriving is how many members of a crowd connect at a time when it gathers. When it comes back, all do.
	arriving = 32
	// comeBack is how long a member waits at the most before it connects again. As clients do, it doubles that each time
	// that it gets no session.
	comeBack = 250 * time.Millisecond
)

// crowd is many clients of little weight. They keep nothing but their cursor, and check that no place is left out and
// none comes twice: no snapshot and no filter comes between.
type crowd struct {
	members []*member
	cancel  context.CancelFunc
	group   sync.WaitGroup
	slots   chan struct{} // a member takes one to arrive for the first time

	mu    sync.Mutex
	place func(n int) *replica // guarded by mu
	away  chan struct{}        // guarded by mu; closed while members may connect
}

// member is one of a crowd.
type member struct {
	user  string
	token string

	mu       sync.Mutex
	cursor   string    // guarded by mu, as all below
	sequence int64     // of cursor
	owed     int64     // the sequence that it is to reach
	reached  time.Time // when the last event came
	faults   []string
	hangUp   func()
}

// gather connects so many members, of users of their own, each where place says, and returns when all are live.
func (c *campaign) gather(ctx context.Context, name string, size int, place func(n int) *replica) (*crowd, error) {
	return c.gatherAs(ctx, size, func(n int) string { return fmt.Sprintf("%s-%d", name, n) }, place)
}

// gatherAs does the same for users who may have several members each.
func (c *campaign) gatherAs(ctx context.Context, size int, user func(n int) string, place func(n int) *replica) (*crowd, error) {
	members := make([]*member, size)
	for n := range members {
		members[n] = &member{user: user(n)}
	}
	return c.assemble(ctx, members, place)
}

// assemble connects members, who may have a cursor from before.
func (c *campaign) assemble(ctx context.Context, members []*member, place func(n int) *replica) (*crowd, error) {
	running, cancel := context.WithCancel(ctx)
	crowd := &crowd{
		members: members, cancel: cancel, place: place, slots: make(chan struct{}, arriving), away: make(chan struct{}),
	}
	close(crowd.away)
	for n, m := range members {
		m.token = c.issuer.mint(m.user)
		crowd.group.Go(func() { crowd.live(running, n, m) })
	}
	if err := until(ctx, 2*time.Minute, "a crowd has gathered", func() bool { return all(members, (*member).placed) }); err != nil {
		crowd.disperse()
		return nil, err
	}
	return crowd, nil
}

// disperse ends all members.
func (c *crowd) disperse() {
	c.cancel()
	c.group.Wait()
}

// goTo makes members that connect from now on choose among these replicas.
func (c *crowd) goTo(replicas []*replica) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place = func(int) *replica { return replicas[rand.IntN(len(replicas))] }
}

// leave hangs up for all members, and keeps them away until the function that it returns is called.
func (c *crowd) leave() (back func()) {
	away := make(chan struct{})
	c.mu.Lock()
	c.away = away
	c.mu.Unlock()
	for _, m := range c.members {
		m.mu.Lock()
		if m.hangUp != nil {
			m.hangUp()
		}
		m.mu.Unlock()
	}
	return func() { close(away) }
}

// live is one member's life.
func (c *crowd) live(ctx context.Context, n int, m *member) {
	for failures := 0; ctx.Err() == nil; failures++ {
		c.mu.Lock()
		place, away := c.place, c.away
		c.mu.Unlock()
		select {
		case <-away:
		case <-ctx.Done():
			return
		}
		if c.connect(ctx, place(n), m) {
			failures = 0
		}
		c.mu.Lock()
		sentAway := !flows(c.away)
		c.mu.Unlock()
		if !sentAway {
			pause(ctx, rand.N(comeBack<<min(failures, 7)))
		}
	}
}

// connect makes one connection and follows it to its end. It reports whether there was one.
func (c *crowd) connect(ctx context.Context, r *replica, m *member) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	socket, err := c.enter(ctx, cancel, r, m)
	if err != nil {
		return false
	}
	// Broken off, and not closed: thousands of connections that linger in TIME_WAIT for a minute leave the kernel to search
	// for a free port with each further one, for so long that the proxies, which are of this process too, stand still.
	hangUp := func() { reset(socket.NetConn()) }
	defer hangUp()
	stop := context.AfterFunc(ctx, hangUp)
	defer stop()
	for {
		frame, err := readFrame(socket)
		if err != nil {
			return true
		}
		m.take(frame)
	}
}

// enter connects, up to the first frame. Members that have no cursor yet do so a few at a time.
func (c *crowd) enter(ctx context.Context, hangUp func(), r *replica, m *member) (*websocket.Conn, error) {
	query := url.Values{"after": {m.where()}}
	if !m.placed() {
		query = url.Values{"snapshot": {"0"}}
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
	}
	socket, err := dialSession(ctx, r.public, m.token, query)
	if err != nil {
		return nil, err
	}
	frame, err := readFrame(socket)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	m.take(frame)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangUp = hangUp
	return socket, nil
}

func (m *member) where() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cursor
}

func (m *member) placed() bool { return m.where() != "" }

func (m *member) take(f client.Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := f.ID
	if f.Own() {
		id = f.Cursor
	}
	_, sequence, ok := parseCursor(id)
	switch {
	case f.Type == client.TypeReady && m.cursor == "":
		m.owed = sequence
	case f.Type == client.TypeReady && (!ok || sequence != m.sequence):
		m.fault("resumes at %q, and not at %q", id, m.cursor)
	case f.Type == client.TypeReset:
		m.fault("is reset: %s", f.Data)
	case f.Own():
		return
	case sequence <= m.sequence:
		m.fault("twice: %s after %s", id, m.cursor)
	case sequence > m.sequence+1:
		m.fault("lost: %s after %s", id, m.cursor)
	}
	if ok {
		m.cursor, m.sequence, m.reached = id, sequence, time.Now()
	}
}

func (m *member) fault(format string, args ...any) {
	if len(m.faults) < 5 {
		m.faults = append(m.faults, m.user+" "+fmt.Sprintf(format, args...))
	}
}

// lacking returns how many events the member has not got yet, and when the last one came.
func (m *member) lacking() (int64, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owed - m.sequence, m.reached
}

// users returns the users of a crowd, each once, sorted.
func (c *crowd) users() []string {
	var users []string
	for _, m := range c.members {
		users = append(users, m.user)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// owe notes that the members of these users, which are sorted, are to receive so many events more.
func (c *crowd) owe(users []string, events int) {
	for _, m := range c.members {
		if _, theirs := slices.BinarySearch(users, m.user); theirs {
			m.mu.Lock()
			m.owed += int64(events)
			m.mu.Unlock()
		}
	}
}

// wholeAgain waits until every member has all it is owed, and returns how long after from the last of them had it.
func (c *crowd) wholeAgain(ctx context.Context, from time.Time) (time.Duration, error) {
	last := from
	err := until(ctx, recoverLimit, "every member of a crowd has all its events", func() bool {
		for _, m := range c.members {
			lacking, at := m.lacking()
			if lacking > 0 {
				return false
			}
			if at.After(last) {
				last = at
			}
		}
		return true
	})
	return last.Sub(from), err
}

// judge adds what the members saw to the episode.
func (c *crowd) judge(e *episode) {
	for _, m := range c.members {
		m.mu.Lock()
		for _, fault := range m.faults {
			e.breaks("%s", fault)
		}
		if m.sequence > m.owed {
			e.breaks("%s received %d events too many", m.user, m.sequence-m.owed)
		}
		m.mu.Unlock()
	}
}

// sendTo sends one event to every user of a crowd, in one transaction.
func (c *campaign) sendTo(ctx context.Context, crowd *crowd) error {
	users := crowd.users()
	crowd.owe(users, 1)
	_, err := c.db.ExecContext(ctx, "SELECT reelay.emit(owner, 'crowd', $2) FROM unnest($1::text[]) owner", users, crowdType)
	if err != nil {
		return fmt.Errorf("send to a crowd: %w", err)
	}
	return nil
}

// sendMany sends many events of some size to every user of a crowd, in many transactions.
func (c *campaign) sendMany(ctx context.Context, crowd *crowd, events, bytes int) error {
	users := crowd.users()
	crowd.owe(users, events)
	for left := events; left > 0; {
		some := min(left, max(1, 500/len(users)))
		left -= some
		_, err := c.db.ExecContext(ctx, `SELECT reelay.emit(owner, n::text, $2, jsonb_build_object('padding', repeat('x', $4)))
			FROM unnest($1::text[]) owner, generate_series(1, $3) n`, users, crowdType, some, bytes)
		if err != nil {
			return fmt.Errorf("send to a crowd: %w", err)
		}
	}
	return nil
}
