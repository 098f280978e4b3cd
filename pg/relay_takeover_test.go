package pg_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg/pgtest"
)

// The leader's session is ended by the server, as by a failover or an administrator.
func TestRelay_AStandbyTakesOverWithinASecond(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	replicas := map[string]*replica{"a": stand(t, s.url, b, "a"), "b": stand(t, s.url, b, "b")}
	_, epoch := awaitLeader(t, b, 0)
	var took []time.Duration
	for i := range 5 {
		s.exec(`INSERT INTO videos VALUES ($1, 'alice')`, fmt.Sprint("v", i))
		begin := time.Now()
		s.exec(`SELECT pg_terminate_backend(pid, 5000) FROM (` + leaderPID + `) AS leader`)
		_, epoch = awaitLeader(t, b, epoch)
		took = append(took, time.Since(begin))
	}
	// The median, since this machine has other things to do.
	slices.Sort(took)
	if took[2] > time.Second {
		t.Errorf("takeovers took %v, want less than a second", took)
	}
	if n := len(b.complete(s)); n != 5 {
		t.Errorf("got %d events, want 5", n)
	}
	b.chained(t)
	eventually(t, "one leader by the metrics", func() bool { return replicas["a"].leads() != replicas["b"].leads() })
}

// A standby's host vanishes. It must not be given the lock when the leader ends, as one that waits for it would be.
func TestRelay_AStandbyThatVanishedDoesNotGetTheLock(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	first := stand(t, s.url, b, "first")
	_, epoch := awaitLeader(t, b, 0)
	proxy := pgtest.NewProxy(t, s.url)
	stand(t, proxy.URL(), b, "ghost")
	sessions := func() int {
		return one[int](s, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reelay leader' AND datname = current_database()`)
	}
	eventually(t, "the ghost stands", func() bool { return sessions() == 2 })
	stand(t, s.url, b, "second")
	eventually(t, "the second stands", func() bool { return sessions() == 3 })
	proxy.Freeze()
	begin := time.Now()
	first.stop()
	leader, _ := awaitLeader(t, b, epoch)
	if took := time.Since(begin); leader != "second" || took > 2*time.Second {
		t.Errorf("%s leads after %v, want second before a ghost's lease is over", leader, took)
	}
}

// cluster is two replicas, each with a network of its own.
type cluster struct {
	s        *session
	bus      *bus
	replicas map[string]*replica
	proxies  map[string]*pgtest.Proxy
}

func (c *cluster) start() {
	c.s.t.Helper()
	name := fmt.Sprint("r", len(c.replicas))
	c.proxies[name] = pgtest.NewProxy(c.s.t, c.s.url)
	c.replicas[name] = stand(c.s.t, c.proxies[name].URL(), c.bus, name)
}

// Whatever ends a leader, and wherever in its work: the next one publishes what it had not.
func TestRelay_NothingIsLostWhenLeadersEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		times int
		end   func(c *cluster, leader string)
	}{
		"terminated": {8, func(c *cluster, _ string) {
			c.s.exec(`SELECT pg_terminate_backend(pid) FROM (` + leaderPID + `) AS leader`)
		}},
		"stopped": {8, func(c *cluster, leader string) {
			c.replicas[leader].stop()
			c.start()
		}},
		// The server must notice by itself, which takes the lease.
		"cut off": {2, func(c *cluster, leader string) { c.proxies[leader].CutClients() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{s: open(t, hammered), bus: &bus{}, replicas: map[string]*replica{}, proxies: map[string]*pgtest.Proxy{}}
			c.start()
			c.start()
			writing, enough := context.WithCancel(t.Context())
			h := swing(writing, c.s.url, 6, 1<<30)
			var epoch hub.Epoch
			for range test.times {
				var leader string
				leader, epoch = awaitLeader(t, c.bus, epoch)
				head := c.bus.head()
				eventually(t, "the leader publishes", func() bool { return c.bus.head() > head+20 })
				test.end(c, leader)
			}
			awaitLeader(t, c.bus, epoch)
			enough()
			h.finish(t)
			h.check(c.s, c.bus.complete(c.s))
		})
	}
}

// A leader ends between the commit that numbers a batch and the batch's way onto the bus.
func TestRelay_PublishesWhatTheLastLeaderOnlyNumbered(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	b := &bus{}
	first := stand(t, s.url, b, "a")
	for i := range 3 {
		s.exec(`INSERT INTO videos VALUES ($1, 'alice')`, fmt.Sprint("v", i))
		eventually(t, "it is published", func() bool { return b.head() == hub.Position(i+1) })
	}
	b.meddle(func(ctx context.Context, _ string, batch hub.Batch) error {
		if len(batch.Events) == 0 {
			return nil
		}
		first.cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	s.exec(`INSERT INTO videos VALUES ('v3', 'alice'), ('v4', 'bob')`)
	<-first.done
	if n := one[int](s, `SELECT count(*) FROM reelay.log`); n != 5 || b.head() != 3 {
		t.Fatalf("%d events are numbered and %d published: the test needs 5 and 3", n, b.head())
	}
	b.meddle(nil)
	stand(t, s.url, b, "b")
	if n := len(b.complete(s)); n != 5 {
		t.Errorf("got %d events, want 5", n)
	}
	// From the mark and not from the first event of all, which may be millions ago.
	for _, batch := range b.all() {
		if batch.by == "b" && batch.From < 1 {
			t.Errorf("the new leader published from %d", batch.From)
		}
	}
}

// When very much is unpublished, replicas are told how far the log has come, and read it.
func TestRelay_DoesNotPublishAgainWithoutEnd(t *testing.T) {
	t.Parallel()
	s := open(t, `INSERT INTO reelay.log SELECT i, 'alice', i, i, 'v', 'video.updated', NULL, now() FROM generate_series(1, 10001) i;
		UPDATE reelay.state SET last_position = 10001, published = 1;
		INSERT INTO reelay.owner_head VALUES ('alice', 10001)`)
	b := &bus{}
	first := stand(t, s.url, b, "a")
	eventually(t, "they are published again", func() bool { return b.head() == 10001 })
	first.stop()
	if n := len(b.events(t)); n != 10000 {
		t.Errorf("%d events were published again, want 10000", n)
	}
	s.exec(`UPDATE reelay.state SET published = 0`)
	b = &bus{}
	stand(t, s.url, b, "b")
	awaitLeader(t, b, 0)
	if batch := b.all()[0]; batch.From != 10001 || batch.Head != 10001 || len(batch.Events) != 0 {
		t.Errorf("the first batch goes from %d to %d with %d events, want only the head", batch.From, batch.Head, len(batch.Events))
	}
	b.chained(t)
}

// What is not kept any more cannot be published again: the batch that follows must not claim that nothing is missing.
func TestRelay_PublishesAgainWhatIsKept(t *testing.T) {
	t.Parallel()
	s := open(t, `INSERT INTO reelay.log SELECT i, 'alice', i, i, 'v', 'video.updated', NULL, now() FROM generate_series(11, 20) i;
		UPDATE reelay.state SET last_position = 20, published = 5;
		INSERT INTO reelay.owner_head VALUES ('alice', 20)`)
	b := &bus{}
	stand(t, s.url, b, "a")
	awaitLeader(t, b, 0)
	if batch := b.all()[0]; batch.From != 10 || batch.Head != 20 {
		t.Errorf("the first batch goes from %d to %d, want from 10 to 20", batch.From, batch.Head)
	}
}
