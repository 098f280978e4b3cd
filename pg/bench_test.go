package pg_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// These say what the parts cost that ARCHITECTURE.md counts with. CPU is that of the one backend that does the work, where
// the system tells it. A flush costs nothing: the server has fsync off.

// usual is what of the tests' settings would change a figure, as Postgres comes.
var usual = map[string]string{"full_page_writes": "on", "shared_buffers": "128MB"}

const (
	benchUsers  = 1000
	benchVideos = 10 * benchUsers
)

// filled is the table of the tests with 1,000 users' videos in it, ten each.
const filled = videos + `
ALTER TABLE videos ADD progress integer NOT NULL DEFAULT 0;
INSERT INTO videos (id, user_id) SELECT 'vid_' || i, 'user-' || i % 1000 FROM generate_series(0, 9999) i;`

// BenchmarkCapture is an UPDATE of one row in a transaction of its own, by one connection, while the leader is awake
// and somewhere else. What the trigger takes of it is the difference to a table without one, to which the same is done
// in turns: so the machine's moods meet both.
func BenchmarkCapture(b *testing.B) {
	server := pgtest.NewServer(b, usual)
	for _, trigger := range []struct{ name, setup string }{
		{"none", ""}, // its difference says how exact all this is
		{"outbox-row", `
			CREATE TABLE plain_outbox (LIKE reelay.outbox INCLUDING ALL);
			CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
				INSERT INTO plain_outbox (owner, subject, type, data) VALUES (NEW.user_id, NEW.id, 'video.updated', jsonb_build_object(
					'processing_status', NEW.processing_status, 'previous', jsonb_build_object('processing_status', OLD.processing_status)));
				RETURN NULL; END$$;
			CREATE TRIGGER plain AFTER UPDATE ON videos FOR EACH ROW
				WHEN (OLD.processing_status IS DISTINCT FROM NEW.processing_status) EXECUTE FUNCTION plain()`},
		{"reelay", `SELECT reelay.watch('videos')`},
		{"reelay-with-a-path", `SELECT reelay.watch('videos'); ALTER FUNCTION reelay.capture_1() SET search_path = pg_catalog, reelay, pg_temp`},
	} {
		b.Run("trigger="+trigger.name, func(b *testing.B) { capture(b, server.New(b), trigger.setup) })
	}
}

func capture(b *testing.B, url, setup string) {
	b.Helper()
	s := connect(b, url)
	s.exec(filled + `
		CREATE TABLE bare (LIKE videos INCLUDING ALL);
		INSERT INTO bare SELECT * FROM videos;
		SELECT setval('reelay.awake', 1);` + setup)
	s.exec("VACUUM ANALYZE")
	s.exec("SET synchronous_commit = off")
	watcher, pid := s.another(), s.conn.PgConn().PID()

	const set = ` SET processing_status = CASE processing_status WHEN 'ready' THEN 'processing' ELSE 'ready' END WHERE id = $1`
	random := rand.New(rand.NewPCG(1, 1))
	update := func(table string) {
		s.exec("UPDATE "+table+set, fmt.Sprint("vid_", random.IntN(benchVideos)))
	}
	for range 1000 { // functions are compiled, statements planned, pages in memory
		update("videos")
		update("bare")
	}

	type cost struct{ cpu, wal float64 }
	now := func() cost { return cost{microseconds(cpuOf(pid)), float64(watcher.wal())} }
	var with, without cost
	last := now()
	add := func(to *cost) {
		is := now()
		to.cpu, to.wal = to.cpu+is.cpu-last.cpu, to.wal+is.wal-last.wal
		last = is
	}
	// As many updates of the other table as there were of this one.
	turn := func(updates int) {
		add(&with)
		for range updates {
			update("bare")
		}
		add(&without)
	}
	updates := 0
	for b.Loop() {
		update("videos")
		if updates++; updates == 100 {
			b.StopTimer()
			turn(updates)
			updates = 0
			b.StartTimer()
		}
	}
	turn(updates)
	ops := float64(b.N)
	b.ReportMetric(with.cpu/ops, "cpu-µs/op")
	b.ReportMetric((with.cpu-without.cpu)/ops, "trigger-cpu-µs/op")
	b.ReportMetric((with.wal-without.wal)/ops, "trigger-WAL-B/op")
}

// BenchmarkDrain is the statement by which the leader moves and numbers a batch, in a session such as the leader's: that
// is one op. The events are of random videos of 1,000 users', with two short columns, one of which changed. A drain of 0
// is a look that finds nothing.
func BenchmarkDrain(b *testing.B) {
	server := pgtest.NewServer(b, usual)
	for _, size := range []int{0, 1, 10, 100, pg.BatchSize} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) { drain(b, server.New(b), size) })
	}
	// What the one plan saves.
	b.Run("events=1,planned-anew", func(b *testing.B) { drain(b, server.New(b), 1, "SET plan_cache_mode = force_custom_plan") })
}

func drain(b *testing.B, url string, size int, settings ...string) {
	b.Helper()
	writer := connect(b, url)
	writer.exec(filled + `SELECT reelay.watch('videos', columns => '{processing_status, progress}')`)
	writer.exec("VACUUM ANALYZE videos")
	writer.exec("SELECT setval('reelay.awake', 1)")
	leader := writer.another()
	leader.exec(pg.LeaderSession)
	for _, setting := range settings {
		leader.exec(setting)
	}

	random := rand.New(rand.NewPCG(1, 1))
	write := func() {
		ids := make([]string, size)
		for i, n := range random.Perm(benchVideos)[:size] {
			ids[i] = fmt.Sprint("vid_", n)
		}
		writer.exec("UPDATE videos SET progress = progress + 1 WHERE id = ANY ($1)", ids)
	}
	var drains, low, top int64
	move := func() {
		if drains++; drains%100 == 0 {
			low = top // not each time: the leader raises it every 100 ms
		}
		rows, err := leader.conn.Query(context.Background(), pg.DrainStatement, int64(0), low, int64(0), int64(pg.BatchSize), int64(0))
		if err != nil {
			b.Fatal(err)
		}
		moved := 0
		for rows.Next() {
			var id int64
			if err := rows.Scan(nil, nil, nil, &id, nil, nil, nil, nil); err != nil {
				b.Fatal(err)
			}
			top = max(top, id)
			moved++
		}
		if err := rows.Err(); err != nil || moved != size {
			b.Fatalf("%d events were moved, want %d: %v", moved, size, err)
		}
	}
	for range 20 {
		write()
		move()
	}

	const logSize = "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'reelay.log'::regclass"
	pid := leader.conn.PgConn().PID()
	cpu, log, wal := cpuOf(pid), one[int64](writer, logSize), int64(0)
	for b.Loop() {
		b.StopTimer()
		write()
		before := writer.wal()
		b.StartTimer()
		move()
		b.StopTimer()
		wal += writer.wal() - before
		b.StartTimer()
	}
	used := microseconds(cpuOf(pid) - cpu)
	b.ReportMetric(used/float64(b.N), "cpu-µs/op")
	if events := float64(b.N * size); events > 0 {
		b.ReportMetric(used/events, "cpu-µs/event")
		b.ReportMetric(float64(wal)/events, "WAL-B/event")
		b.ReportMetric(float64(one[int64](writer, logSize)-log)/events, "log-B/event")
	}
}

// BenchmarkHeads is what one replica asks in a reconciliation: the heads of 40,000 of a million owners. Each time they
// are others, as if it were another replica.
func BenchmarkHeads(b *testing.B) {
	const owners, each = 1_000_000, 40_000
	s := connect(b, pgtest.NewServer(b, usual).New(b))
	s.exec("INSERT INTO reelay.owner_head SELECT 'user-' || i, 1 FROM generate_series(0, $1::int - 1) i", owners)
	s.exec("VACUUM ANALYZE reelay.owner_head")
	log, err := pg.OpenLog(context.Background(), s.url, pg.NewMetrics(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	random := rand.New(rand.NewPCG(1, 1)).Perm(owners)
	asked := make([]hub.Owner, each)
	choose := func(n int) {
		for i := range asked {
			asked[i] = hub.Owner(fmt.Sprint("user-", random[(n*each+i)%owners]))
		}
	}
	read := func() {
		heads, err := log.Heads(context.Background(), asked)
		if err != nil || len(heads.Sequences) != each {
			b.Fatalf("%d heads, want %d: %v", len(heads.Sequences), each, err)
		}
	}
	choose(0)
	read()
	// One caller, and so one connection.
	pid := one[uint32](s, "SELECT pid FROM pg_stat_activity WHERE application_name = 'reelay' AND datname = current_database()")
	cpu := cpuOf(pid)
	for n := 1; b.Loop(); n++ {
		b.StopTimer()
		choose(n)
		b.StartTimer()
		read()
	}
	b.ReportMetric(microseconds(cpuOf(pid)-cpu)/float64(b.N*each), "cpu-µs/head")
}

// wal returns how many bytes of write-ahead log the server has written so far.
func (s *session) wal() int64 {
	s.t.Helper()
	return one[int64](s, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
