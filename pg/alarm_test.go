package pg_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/pg"
)

// sleeper is a leader that does nothing but look, and has no beat: a wake-up that is lost stays lost.
type sleeper struct {
	drained atomic.Int64 // rows it has taken from the outbox
	looks   atomic.Int64 // how often it has looked
	asleep  atomic.Bool
	held    chan struct{} // receives while a test holds it up before a look
}

// lieDown starts a sleeper, which ends with the test.
func lieDown(s *session, mode pg.Wake) *sleeper {
	s.t.Helper()
	l := &sleeper{held: make(chan struct{})}
	conn := s.another().conn
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.live(ctx, conn, mode) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("the sleeper: %v", err)
		}
	})
	return l
}

func (l *sleeper) live(ctx context.Context, conn *pgx.Conn, mode pg.Wake) error {
	a := pg.NewAlarm(conn, mode)
	if err := a.Set(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-l.held:
			<-l.held
		default:
		}
		if err := a.Settle(ctx); err != nil {
			return err
		}
		tag, err := conn.Exec(ctx, "DELETE FROM reelay.outbox")
		if err != nil {
			return err
		}
		l.drained.Add(tag.RowsAffected())
		l.looks.Add(1)
		l.asleep.Store(a.Sleeps(int(tag.RowsAffected())))
		if err := a.Wait(ctx, int(tag.RowsAffected()), time.Now().Add(time.Hour)); err != nil {
			return err
		}
	}
}

func awake(s *session) bool {
	s.t.Helper()
	return one[int](s, `SELECT last_value FROM reelay.awake`) == 1
}

// rouse makes many events at once, so that the sleeper stays awake for a while. All of them must arrive.
func (l *sleeper) rouse(s *session) {
	s.t.Helper()
	eventually(s.t, "it stays awake", func() bool {
		n := l.drained.Load()
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress') FROM generate_series(1, 30)`)
		eventually(s.t, "the events arrive", func() bool { return l.drained.Load() >= n+30 })
		return awake(s)
	})
}

// tell makes an event and waits until it has arrived.
func (l *sleeper) tell(s *session) {
	s.t.Helper()
	n := l.drained.Load()
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	eventually(s.t, "the event arrives", func() bool { return l.drained.Load() > n })
}

func (l *sleeper) awaitSleep(t testing.TB) {
	t.Helper()
	eventually(t, "it sleeps", l.asleep.Load)
}

// Some fifty events a second have the leader sleep, although they never stop.
func TestAlarm_SleepsWhereEventsComeRarely(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := lieDown(s, pg.WakeAuto)
	l.rouse(s)
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	eventually(t, "it falls asleep", func() bool {
		<-pace.C
		l.tell(s)
		return !awake(s)
	})
}

// Again and again the leader falls asleep just as an event comes, whose writer may have read that it is awake.
func TestAlarm_NoWakeUpIsLostWhileItFallsAsleep(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			s := open(t)
			l := lieDown(s, pg.WakeAuto)
			random := rand.New(rand.NewPCG(7, uint64(i)))
			for range 40 {
				l.rouse(s)
				n := l.drained.Load()
				// It lingers for 100 ms. The transaction begins around its end, reads the flag, and commits a while later.
				s.exec(fmt.Sprintf(`
					SELECT pg_sleep(%f);
					BEGIN; SELECT reelay.emit('alice', 'v1', 'video.progress'); SELECT pg_sleep(%f); COMMIT`,
					0.085+random.Float64()*0.03, random.Float64()*0.03))
				eventually(t, "the event arrives", func() bool { return l.drained.Load() > n })
			}
		})
	}
}

// The writer has read "awake", so it does not NOTIFY, and commits long after the leader went to sleep.
func TestAlarm_WaitsForAWriterThatReadAwake(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := lieDown(s, pg.WakeAuto)
	for _, hold := range []string{
		`BEGIN; SELECT reelay.emit('alice', 'v1', 'video.progress')`,
		`BEGIN; SAVEPOINT s; SELECT reelay.emit('alice', 'v1', 'video.progress'); RELEASE s`,
		`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT reelay.emit('alice', 'v1', 'video.progress')`,
	} {
		writer := s.another()
		eventually(t, "a writer reads awake", func() bool {
			l.rouse(s)
			writer.exec(hold)
			if awake(s) {
				return true
			}
			writer.exec(`ROLLBACK`)
			return false
		})
		eventually(t, "the flag falls", func() bool { return !awake(s) })
		looks := l.looks.Load()
		eventually(t, "it has looked again and again, or sleeps", func() bool { return l.looks.Load() > looks+8 || l.asleep.Load() })
		if l.asleep.Load() {
			t.Fatalf("%s: it sleeps, and the writer will not wake it", hold)
		}
		n := l.drained.Load()
		writer.exec(`COMMIT`)
		eventually(t, "the event arrives", func() bool { return l.drained.Load() > n })
		l.awaitSleep(t)
		l.tell(s) // and from then on a NOTIFY comes
	}
}

// The mark is drawn when the flag has fallen: a writer that got its transaction id between the two would be above the
// mark, and have read "awake". Here the flag is held up in its fall for as long as the writer needs for that.
func TestAlarm_DrawsTheMarkAfterTheFlagHasFallen(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := lieDown(s, pg.WakeAuto)
	l.rouse(s)
	brake, writer := s.another(), s.another()
	brake.exec(`BEGIN; ALTER SEQUENCE reelay.awake OWNED BY NONE`)
	eventually(t, "the flag's fall waits", func() bool {
		return one[bool](s, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'reelay.awake'::regclass)`)
	})
	writer.exec(`BEGIN; SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	brake.exec(`ROLLBACK`)
	eventually(t, "the flag falls", func() bool { return !awake(s) })
	looks := l.looks.Load()
	eventually(t, "it has looked again and again, or sleeps", func() bool { return l.looks.Load() > looks+8 || l.asleep.Load() })
	n := l.drained.Load()
	writer.exec(`COMMIT`)
	eventually(t, "the event arrives", func() bool { return l.drained.Load() > n })
}

// A leader that comes finds the flag as the last one left it: awake. Nobody would NOTIFY the new one.
func TestAlarm_ANewLeaderSetsTheFlag(t *testing.T) {
	t.Parallel()
	for _, mode := range []pg.Wake{pg.WakeAuto, pg.WakeNotify} {
		s := open(t, `SELECT setval('reelay.awake', 1)`)
		writer := s.another()
		writer.exec(`BEGIN; SELECT reelay.emit('alice', 'v1', 'video.progress')`) // has read awake
		l := lieDown(s, mode)
		eventually(t, "the flag falls", func() bool { return !awake(s) })
		writer.exec(`COMMIT`)
		eventually(t, "the event arrives", func() bool { return l.drained.Load() == 1 })
		l.awaitSleep(t)
		l.tell(s)
	}
}

// While the leader is held up, many writers NOTIFY. All that they tell is found by one look.
func TestAlarm_ManyNotificationsMakeOneLook(t *testing.T) {
	t.Parallel()
	s := open(t)
	l := lieDown(s, pg.WakeNotify) // which has nothing else to make it look
	l.tell(s)
	l.awaitSleep(t)
	held := make(chan struct{})
	go func() { // ends when the sleeper comes to its next look
		l.held <- struct{}{}
		close(held)
	}()
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	const many, few = 500, 50
	for range many {
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
	}
	<-held
	looks, drained := l.looks.Load(), l.drained.Load()
	l.held <- struct{}{}
	eventually(t, "all arrive", func() bool { return l.drained.Load() >= drained+many })
	for range few { // each is a look, and a chance to look for what was found already
		l.tell(s)
	}
	if more := l.looks.Load() - looks; more > many {
		t.Errorf("it looked %d times for what one look finds, and %d more", more, few)
	}
}
