package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
)

// listener is a way for events to reach clients.
type listener struct {
	key, name string
	follow    func(m *timing, ctx context.Context, o options) error // sets it up, and has what arrives noted
}

// listeners begin with the limits.
var listeners = []listener{
	{"listen", "bare LISTEN (limit)", (*timing).listen},
	{"told", "bare socket server (limit)", (*timing).tell},
	{"one", "Reelay, 1 replica", func(m *timing, ctx context.Context, o options) error { return m.connect(ctx, o, 1) }},
	{"three", "Reelay, 3 replicas", func(m *timing, ctx context.Context, o options) error { return m.connect(ctx, o, 3) }},
}

// listen hears by a NOTIFY of the row's trigger: the least that there can be between Postgres and a client.
func (m *timing) listen(ctx context.Context, _ options) error {
	if err := notifyTrigger(ctx, m.stack.db); err != nil {
		return err
	}
	m.stop = append(m.stop, func(ctx context.Context) error {
		_, err := m.stack.db.ExecContext(ctx, "DROP TRIGGER notify ON videos; DROP FUNCTION notify()")
		return err
	})
	conn, err := pgx.Connect(ctx, m.stack.url())
	if err != nil {
		return err
	}
	listening, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	m.stop = append(m.stop, func(ctx context.Context) error { cancel(); wg.Wait(); return conn.Close(ctx) })
	if _, err := conn.Exec(ctx, "LISTEN changed"); err != nil {
		return err
	}
	wg.Go(func() {
		for {
			notification, err := conn.WaitForNotification(listening)
			if err != nil {
				return
			}
			_, digits, _ := strings.Cut(notification.Payload, ",")
			if number, err := strconv.ParseInt(digits, 10, 64); err == nil {
				m.arrive(number, time.Now())
			}
		}
	})
	return nil
}

// connect follows all users, one socket each, spread over the replicas.
func (m *timing) connect(ctx context.Context, o options, replicas int) error {
	s := m.stack
	m.stop = append(m.stop, s.retire)
	if err := s.replicas(ctx, o, replicas); err != nil {
		return err
	}
	m.stop = append(m.stop, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, "SELECT reelay.unwatch('videos')")
		return err
	})
	if err := s.watch(ctx); err != nil {
		return err
	}
	return m.join(ctx, addresses(s.gateways))
}

// tell has whoever has committed tell a bare server, which writes to the user's socket: with as many sockets as Reelay has
// to serve, nothing that hears of a commit can be much sooner.
func (m *timing) tell(ctx context.Context, _ options) error {
	b, err := startBare(ctx)
	if err != nil {
		return err
	}
	m.stop = append(m.stop, b.stop)
	if err := m.join(ctx, []string{b.address}); err != nil {
		return err
	}
	all := func() bool { n, err := b.sockets(ctx); return err == nil && n == len(m.crowd.sockets) }
	if err := until(ctx, "the bare server has all sockets", all); err != nil {
		return err
	}
	conn, err := b.teller(ctx)
	if err != nil {
		return err
	}
	m.stop = append(m.stop, func(context.Context) error { return conn.Close() })
	var telling sync.Mutex
	m.after = func(c commit) error {
		telling.Lock()
		defer telling.Unlock()
		return conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%d %d", c.videos[0]/m.ledger.each, c.number))
	}
	return nil
}

// join connects one client of each user, spread over servers.
func (m *timing) join(ctx context.Context, addresses []string) error {
	var err error
	if m.crowd, err = newCrowd(m.ledger, addresses, numbered(users), 1); err != nil {
		return err
	}
	m.crowd.onEvent = func(e event, at time.Time) { m.arrive(e.number, at) }
	m.stop = append(m.stop, func(context.Context) error { m.crowd.leave(); return nil })
	return m.crowd.join(ctx)
}

// notifyTrigger is the plain way: each change of a row calls pg_notify.
func notifyTrigger(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `
		CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('changed', NEW.id || ',' || NEW.progress); RETURN NULL; END$$;
		CREATE TRIGGER notify AFTER UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION notify()`)
	if err != nil {
		return fmt.Errorf("make a trigger that notifies: %w", err)
	}
	return nil
}
