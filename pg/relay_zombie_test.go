package pg_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// A leader whose network swallows everything is not told that it has been replaced. Postgres drops it all the same, and
// what it does when the network is back is too late.
func TestRelay_ALeaderInABlackHoleIsReplaced(t *testing.T) {
	t.Parallel()
	s := open(t, hammered)
	b := &bus{}
	proxy := pgtest.NewProxy(t, s.url)
	first := stand(t, proxy.URL(), b, "first")
	_, epoch := awaitLeader(t, b, 0)
	stand(t, s.url, b, "second")
	writing, enough := context.WithCancel(t.Context())
	h := swing(writing, s.url, 4, 1<<30)
	head := b.head()
	eventually(t, "the first publishes", func() bool { return b.head() > head+20 })

	begin := time.Now()
	proxy.Freeze()
	leader, next := awaitLeader(t, b, epoch)
	if took := time.Since(begin); leader != "second" || took > 6*time.Second {
		t.Errorf("%s leads after %v, want second within 6 s", leader, took)
	}
	eventually(t, "the first knows that it leads no more", func() bool { return !first.leads() })
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("the first believed in itself for %v, want at most 6 s", took)
	}
	proxy.Thaw()
	head = b.head()
	eventually(t, "the second goes on", func() bool { return b.head() > head+20 })
	enough()
	h.finish(t)
	h.check(s, b.complete(s))
	if _, now := b.leader(); now != next {
		t.Errorf("the epoch went on from %d to %d", next, now)
	}
	for _, batch := range b.all() {
		if batch.by == "first" && batch.Epoch != epoch {
			t.Errorf("the first published in epoch %d, after its own, %d", batch.Epoch, epoch)
		}
	}
}

// A leader sleeps with a batch in hand, between the commit and the bus, until another has taken over. What it then
// publishes has its old epoch, and what it would number is refused.
func TestRelay_AZombiePublishesInItsOwnEpochAndNumbersNothing(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	frozen, thawed := make(chan struct{}), make(chan struct{})
	b.meddle(func(_ context.Context, replica string, batch hub.Batch) error {
		if replica == "first" && len(batch.Events) > 0 {
			close(frozen)
			<-thawed // whatever its context says, as a process that is stopped
			b.meddle(nil)
		}
		return nil
	})
	first := stand(t, s.url, b, "first")
	thaw := sync.OnceFunc(func() { close(thawed) })
	t.Cleanup(thaw)
	_, epoch := awaitLeader(t, b, 0)
	stand(t, s.url, b, "second")
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	eventually(t, "the first has a batch in hand", func() bool {
		select {
		case <-frozen:
			return true
		default:
			return false
		}
	})
	_, next := awaitLeader(t, b, epoch)
	s.exec(`INSERT INTO videos VALUES ('v2', 'alice')`)
	eventually(t, "the second publishes both", func() bool { return b.head() == 2 })
	thaw()
	eventually(t, "the zombie is gone", func() bool { return !first.leads() })
	b.complete(s)
	late := 0
	for _, batch := range b.all() {
		if batch.by == "first" && len(batch.Events) > 0 {
			late++
			if batch.Epoch != epoch || batch.Head != 1 {
				t.Errorf("the zombie published to %d in epoch %d, want to 1 in epoch %d", batch.Head, batch.Epoch, epoch)
			}
		}
	}
	if _, now := b.leader(); late != 1 || now != next {
		t.Errorf("the zombie published %d batches, and the epoch is %d; want 1 and %d", late, now, next)
	}
}

// The fence itself: a leader that still has its session and its lock, and has been replaced nevertheless.
func TestRelay_ALeaderOfAnOldEpochNumbersNothing(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	stand(t, s.url, b, "a")
	_, epoch := awaitLeader(t, b, 0)
	b.beats(t, 2) // the next one, which would tell, is a second away; NOTIFY comes before it
	// Another leader, in one transaction with the events that the first must not number.
	s.exec(`BEGIN; UPDATE reelay.state SET epoch = epoch + 1; INSERT INTO videos VALUES ('v1', 'alice'); COMMIT`)
	eventually(t, "the first gives up and stands again", func() bool { _, now := b.leader(); return now == epoch+2 })
	for _, batch := range b.all() {
		if batch.Epoch == epoch && len(batch.Events) > 0 {
			t.Errorf("events up to %d were numbered in epoch %d, after epoch %d began", batch.Head, epoch, epoch+1)
		}
	}
	if n := len(b.complete(s)); n != 1 {
		t.Errorf("got %d events, want 1", n)
	}
}

// leaderEnv makes the test binary play a replica, for tests that stop it as a process. Its value is the database's URL.
const leaderEnv = "REELAY_PG_TEST_LEADER"

// playLeader stands for leader until the process is killed.
func playLeader(url string) error {
	config := pg.RelayConfig{URL: url, Retention: time.Hour, Log: slog.New(slog.DiscardHandler), Metrics: pg.NewMetrics(nil)}
	return pg.NewRelay(config, &port{&bus{}, "process"}).Run(context.Background())
}

// A replica is stopped as a process: its kernel keeps the connection and answers for it.
func TestRelay_AFrozenProcessIsReplacedAndNoWriterWaits(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos SELECT 'v' || i, 'alice' FROM generate_series(1, 100) i`)
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), leaderEnv+"="+s.url)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	eventually(t, "the process leads", func() bool { return one[int](s, `SELECT published FROM reelay.state`) == 100 })
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Nobody leads now, and nobody will for a while. A writer that waited for anything would run into a limit.
	writer := s.another()
	writer.exec(`SET statement_timeout = '2s'; SET lock_timeout = '100ms'`)
	writes, begin := 0, time.Now()
	for one[bool](s, `SELECT EXISTS (`+leaderPID+`)`) && time.Since(begin) < patience {
		writes++
		writer.exec(`UPDATE videos SET processing_status = $1`, fmt.Sprint("s", writes))
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("the frozen leader held its lock for %v, want at most 6 s", took)
	}
	b := &bus{}
	stand(t, s.url, b, "second")
	want := hub.Position(100 + 100*writes)
	eventually(t, "all is published", func() bool { return b.head() == want })
	if events := b.events(t); events[0].Position != 101 || len(events) != 100*writes {
		t.Errorf("%d events from position %d were published, want %d from 101", len(events), events[0].Position, 100*writes)
	}
	b.chained(t)
}
