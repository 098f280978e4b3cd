package pg_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
)

// listener hears what writers NOTIFY.
type listener struct {
	*session
	markers int
}

func listen(s *session) *listener {
	l := &listener{session: s.another()}
	l.exec("LISTEN reelay")
	return l
}

// heard returns how many notifications came since the last call. It sends a marker, which comes after all of them.
func (l *listener) heard() int {
	l.t.Helper()
	l.markers++
	marker := fmt.Sprint("marker ", l.markers)
	l.exec("SELECT pg_notify('reelay', $1)", marker)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for n := 0; ; n++ {
		notification, err := l.conn.WaitForNotification(ctx)
		if err != nil {
			l.t.Fatalf("wait for the marker: %v", err)
		}
		if notification.Payload == marker {
			return n
		}
	}
}

func TestRelay_WritersNotifyOnlyALeaderThatSleeps(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	l := listen(s)
	// Asleep: each event by itself is a NOTIFY, and arrives at once, without waiting for the next beat.
	for i := range 3 {
		s.exec(`INSERT INTO videos VALUES ($1, 'alice')`, fmt.Sprint("v", i))
		eventually(t, "the event", func() bool { return b.head() == hub.Position(i+1) })
		if n := l.heard(); n != 1 {
			t.Errorf("the writer notified %d times, want once", n)
		}
	}
	// Busy: it stays awake, and they stop. A pause of this test's own may let it fall asleep: then once more.
	eventually(t, "fifty events without a NOTIFY", func() bool {
		for i := 0; !awake(s) && i < 1000; i++ {
			s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		}
		l.heard()
		for range 50 {
			s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
		}
		return awake(s) && l.heard() == 0
	})
	// Quiet: it falls asleep, and they start again.
	eventually(t, "it falls asleep", func() bool { return !awake(s) })
	l.heard()
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	if n := l.heard(); n != 1 {
		t.Errorf("the writer notified %d times, want once", n)
	}
	b.complete(s)
	b.chained(t)
}

func TestRelay_WakeNotifyNeverStaysAwake(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	stand(t, s.url, b, "a", func(c *pg.RelayConfig) { c.Wake = pg.WakeNotify })
	awaitLeader(t, b, 0)
	l := listen(s)
	for range 300 {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	}
	if n := l.heard(); n != 300 {
		t.Errorf("300 transactions notified %d times", n)
	}
	if n := len(b.complete(s)); n != 300 {
		t.Errorf("got %d events, want 300", n)
	}
}

// Nobody notifies, which is what PREPARE TRANSACTION needs.
func TestRelay_WakePollNeverLetsWritersNotify(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	stand(t, s.url, b, "a", func(c *pg.RelayConfig) { c.Wake = pg.WakePoll })
	eventually(t, "the flag", func() bool { return awake(s) })
	l := listen(s)
	beats := len(b.all())
	eventually(t, "two quiet beats", func() bool { return len(b.all()) >= beats+2 })
	name := fmt.Sprint("late ", time.Now().UnixNano())
	s.exec(fmt.Sprintf(`BEGIN; INSERT INTO videos VALUES ('v1', 'alice'); PREPARE TRANSACTION '%s'`, name))
	s.exec(`INSERT INTO videos VALUES ('v2', 'alice')`)
	eventually(t, "the second event", func() bool { return b.head() == 1 })
	beats = len(b.all())
	eventually(t, "three beats", func() bool { return len(b.all()) >= beats+3 }) // the low bound would have passed it
	s.exec(fmt.Sprintf(`COMMIT PREPARED '%s'`, name))
	events := b.complete(s)
	if n := l.heard(); n != 0 || len(events) != 2 || events[1].Subject != "v1" {
		t.Errorf("writers notified %d times, and %d events came; want none and 2", n, len(events))
	}
}

// One mode after another leads, and each finds the flag as the last one left it.
func TestRelay_ModesCanTakeTurns(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	position := hub.Position(0)
	for i, mode := range []pg.Wake{pg.WakePoll, pg.WakeNotify, pg.WakePoll, pg.WakeAuto, pg.WakeNotify} {
		r := stand(t, s.url, b, fmt.Sprint("r", i), func(c *pg.RelayConfig) { c.Wake = mode })
		for range 5 {
			s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
			position++
			eventually(t, "the event", func() bool { return b.head() == position })
		}
		r.stop()
	}
	b.complete(s)
}

// Each way to make an event wakes a leader that sleeps, and leaves one alone that is awake. One that has never said which
// it is, as after a crash of Postgres, sleeps.
func TestCapture_EachWayToMakeAnEventWakesALeader(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	l := listen(s)
	const isAwake = `SELECT setval('reelay.awake', 1)`
	for _, statement := range []string{
		`INSERT INTO videos VALUES ('v2', 'alice')`,
		`UPDATE videos SET processing_status = 'ready'`,
		`UPDATE videos SET user_id = 'bob'`,
		`DELETE FROM videos`,
		`SELECT reelay.emit('alice', 'v1', 'video.progress')`,
		`TRUNCATE videos`,
	} {
		for _, leader := range []struct {
			state string
			want  int
		}{{`SELECT setval('reelay.awake', 0)`, 1}, {`ALTER SEQUENCE reelay.awake RESTART`, 1}, {isAwake, 0}} {
			s.exec(isAwake)
			s.exec(`TRUNCATE videos`)
			s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
			s.exec(leader.state)
			l.heard()
			s.exec(statement)
			if got := l.heard(); got != leader.want {
				t.Errorf("%s after %s: %d notifications, want %d", statement, leader.state, got, leader.want)
			}
		}
	}
}
