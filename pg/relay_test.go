package pg_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
)

func TestRelay_NumbersAndPublishesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice'), ('v2', 'bob')`) // before there is a leader
	b := &bus{}
	r := stand(t, s.url, b, "a")
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress', '{"percent": 40}')`)
	s.exec(`DELETE FROM videos WHERE id = 'v1'`)
	eventually(t, "six events", func() bool { return b.head() == 6 })
	var got []string
	for _, e := range b.complete(s) {
		got = append(got, string(e.Owner)+" "+e.Subject+" "+e.Type+" "+string(e.Data))
	}
	same(t, "published", got, []string{
		`alice v1 video.created {"processing_status": "pending"}`, `bob v2 video.created {"processing_status": "pending"}`,
		`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`,
		`bob v2 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`,
		`alice v1 video.progress {"percent": 40}`, `alice v1 video.deleted `,
	})
	b.chained(t)
	if !r.leads() || r.value("reelay_relay_events_total") != 6 {
		t.Errorf("metrics: leader %v, events %v; want true and 6", r.leads(), r.value("reelay_relay_events_total"))
	}
	if name := one[string](s, `SELECT log FROM reelay.state`); b.all()[0].Log != name {
		t.Errorf("published under the name %q, want %q", b.all()[0].Log, name)
	}
	r.stop()
	if r.leads() {
		t.Error("the metric says leader after the end")
	}
}

// A heartbeat comes every second, whether there is anything to tell or not, and moves the mark.
func TestRelay_Beats(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice')`)
	b := &bus{}
	stand(t, s.url, b, "a")
	beats := func() (n int) {
		for _, batch := range b.all() {
			if len(batch.Events) == 0 && batch.From == 1 && batch.Head == 1 {
				n++
			}
		}
		return n
	}
	eventually(t, "three beats at position 1", func() bool { return beats() >= 3 })
	eventually(t, "the mark", func() bool { return one[int](s, `SELECT published FROM reelay.state`) == 1 })
}

func TestRelay_MoreThanABatch(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos SELECT 'v' || i, 'u' || i % 7 FROM generate_series(1, 3500) i`)
	b := &bus{}
	stand(t, s.url, b, "a")
	if n := len(b.complete(s)); n != 3500 {
		t.Errorf("got %d events, want 3500", n)
	}
	b.chained(t)
}

// While a batch is being published, the next is numbered; but it is published after it, not beside it.
func TestRelay_PublishesOneBatchAndNumbersTheNext(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	watcher := s.another()
	var publishing, beside, alone atomic.Int64
	b := &bus{}
	b.meddle(func(ctx context.Context, _ string, batch hub.Batch) error {
		if publishing.Add(1) > 1 {
			beside.Add(1)
		}
		defer publishing.Add(-1)
		for first := batch.From == 0 && len(batch.Events) > 0; first; {
			var numbered hub.Position
			if err := watcher.conn.QueryRow(ctx, `SELECT last_position FROM reelay.state`).Scan(&numbered); err != nil {
				alone.Add(1) // the time to publish is over
				return err
			}
			first = numbered <= batch.Head
		}
		return nil
	})
	s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress') FROM generate_series(1, 3500)`)
	stand(t, s.url, b, "a")
	b.complete(s)
	b.chained(t)
	if alone.Load() > 0 || beside.Load() > 0 {
		t.Errorf("%d batches were published while nothing was numbered, %d while another was being published", alone.Load(), beside.Load())
	}
}

// What the bus refuses is numbered all the same, and the next batch that it takes shows every replica the gap.
func TestRelay_ABusThatRefusesDoesNotStopNumbering(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	r := stand(t, s.url, b, "a")
	_, epoch := awaitLeader(t, b, 0)
	b.meddle(func(context.Context, string, hub.Batch) error { return errors.New("refused") })
	for range 5 {
		s.exec(`INSERT INTO videos SELECT gen_random_uuid(), 'alice'`)
	}
	eventually(t, "five are numbered", func() bool { return one[int](s, `SELECT last_position FROM reelay.state`) == 5 })
	b.meddle(nil)
	s.exec(`INSERT INTO videos VALUES ('v6', 'alice')`)
	eventually(t, "the sixth is published", func() bool { return b.head() == 6 })
	last := b.all()[len(b.all())-1]
	if last.Epoch != epoch || last.From < 5 {
		t.Errorf("got a batch of epoch %d from %d to %d, want epoch %d from 5", last.Epoch, last.From, last.Head, epoch)
	}
	if n := r.value("reelay_relay_publish_errors_total"); n < 1 {
		t.Errorf("%v publish errors are counted", n)
	}
}

// A bus that takes a batch and never says a word would cost the leader its lease.
func TestRelay_ABusThatHangsDoesNotCostTheLeadership(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	stand(t, s.url, b, "a")
	_, epoch := awaitLeader(t, b, 0)
	var hung atomic.Int64
	b.meddle(func(ctx context.Context, _ string, batch hub.Batch) error {
		if len(batch.Events) == 0 {
			return nil
		}
		hung.Add(1)
		<-ctx.Done()
		return ctx.Err()
	})
	for range 5 {
		n := hung.Load()
		s.exec(`INSERT INTO videos SELECT gen_random_uuid(), 'alice'`)
		eventually(t, "it hangs again", func() bool { return hung.Load() > n })
	}
	b.meddle(nil)
	s.exec(`INSERT INTO videos VALUES ('last', 'alice')`)
	eventually(t, "all are numbered and the last is published", func() bool { return b.head() == 6 })
	if _, now := b.leader(); now != epoch {
		t.Errorf("the epoch went from %d to %d", epoch, now)
	}
}

// Whatever isolation level a database or a role prefers, the leader's own is the one its statements are written for.
func TestRelay_TheDatabasesDefaultsDoNotMatter(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	name := one[string](s, `SELECT current_database()::text`)
	for _, sql := range []string{
		`ALTER DATABASE ` + name + ` SET default_transaction_isolation = 'serializable'`,
		`ALTER DATABASE ` + name + ` SET search_path = ''`,
		`ALTER DATABASE ` + name + ` SET datestyle = 'German'`,
	} {
		s.exec(sql)
	}
	b := &bus{}
	stand(t, s.url, b, "a")
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	eventually(t, "the event is published", func() bool { return b.head() == 1 })
	if got := one[string](s, `SELECT string_agg(DISTINCT application_name, ' ') FROM pg_stat_activity WHERE pid = ANY (ARRAY(`+leaderPID+`))`); got != "reelay leader" {
		t.Errorf("the leader's session is called %q", got)
	}
}

// SERIALIZABLE fails a transaction that stands between two others, of which one reads what it writes. A leader that took
// part in that would stand at one end of every writer, since it reads what they all write.
func TestRelay_DoesNotFailSerializableWriters(t *testing.T) {
	t.Parallel()
	s := open(t, videos, `INSERT INTO videos SELECT 'v' || i, 'u' || i FROM generate_series(10000, 49999) i`, `ANALYZE videos; SELECT reelay.watch('videos')`)
	s.exec(`ALTER DATABASE ` + one[string](s, `SELECT current_database()::text`) + ` SET default_transaction_isolation = 'serializable'`)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	reader, writer := s.another(), s.another()
	for position := range hub.Position(5) {
		reader.exec(`BEGIN; SELECT processing_status FROM videos WHERE id = 'v45000'`)
		reader.exec(`UPDATE videos SET processing_status = $1 WHERE id = 'v15000'`, fmt.Sprint("a", position))
		writer.exec(`UPDATE videos SET processing_status = $1 WHERE id = 'v45000'`, fmt.Sprint("b", position))
		eventually(t, "the writer's event", func() bool { return b.head() == 2*position+1 })
		reader.exec(`COMMIT`)
		eventually(t, "the reader's event", func() bool { return b.head() == 2*position+2 })
	}
}

func TestRelay_OverAUnixSocketAsARoleOfItsOwn(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	b := &bus{}
	r := stand(t, login(socket(t, s.url), role), b, "a", func(c *pg.RelayConfig) { c.Retention = 0 })
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	b.complete(s)
	if !r.leads() {
		t.Error("it does not lead")
	}
}
