package pg_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/reelay/reelay/pg/pgtest"
)

// program returns the path of one of Postgres's programs. Some packages hold the server alone.
func program(t *testing.T, server *pgtest.Server, name string) string {
	t.Helper()
	path := server.Bin(name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("this Postgres comes without %s: %v", name, err)
	}
	return path
}

// tool runs one of Postgres's programs to its end, and returns what it wrote.
func tool(t *testing.T, server *pgtest.Server, input, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program(t, server, name), args...)
	command.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	return string(out)
}

// A database is dumped and restored as another, where the tables have other numbers.
func TestRestore_ADumpGoesOnUnderAnotherName(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	s := open(t, watched, `CREATE TABLE clips (id int PRIMARY KEY, user_id int, processing_status text); SELECT reelay.watch('clips', prefix => 'clip')`)
	b := &bus{}
	r := stand(t, s.url, b, "a")
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice'); INSERT INTO clips VALUES (1, 7, 'new')`)
	eventually(t, "two events", func() bool { return b.head() == 2 })
	r.stop()
	s.exec(`UPDATE videos SET processing_status = 'waiting'`) // in the outbox when the dump is made
	name := one[string](s, `SELECT log FROM reelay.state`)

	restored := connect(t, server.NewEmpty(t))
	restored.exec(`CREATE TABLE a (); CREATE TABLE b (); DROP TABLE a, b`) // so that the numbers differ
	tool(t, server, tool(t, server, "", "pg_dump", "-d", s.url), "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", restored.url)
	restored.exec(`UPDATE videos SET processing_status = 'ready'; TRUNCATE clips`)
	same(t, "snapshot", restored.snapshot("alice"), []string{`v1 {"processing_status": "ready"}`})

	after := &bus{}
	stand(t, restored.url, after, "b")
	eventually(t, "three more events", func() bool { return after.head() == 5 })
	var got []string
	for _, e := range after.events(t) {
		got = append(got, fmt.Sprint(e.Position, " ", e.Owner, " ", e.Sequence, " ", e.Subject, " ", e.Type))
	}
	if len(got) > 3 {
		got = got[len(got)-3:] // the first two, where their publication was not written down
	}
	same(t, "events", got, []string{"3 alice 2 v1 video.updated", "4 alice 3 v1 video.updated", "5 7 2 1 clip.deleted"})
	if now := after.all()[0].Log; now == name {
		t.Errorf("the restored log has the name of the old one, %s", name)
	}
	restored.exec(`SELECT reelay.watch('clips'); SELECT reelay.unwatch('videos')`)
	// The old database goes on as it was.
	r = stand(t, s.url, b, "c")
	eventually(t, "the third event", func() bool { return b.head() == 3 })
	if now := one[string](s, `SELECT log FROM reelay.state`); now != name {
		t.Errorf("the log's name went from %s to %s", name, now)
	}
	r.stop()
}

// A dump puts the schema back as it was, in the same database: positions that were given since, and are not in the dump,
// are given again.
func TestRestore_IntoTheSameDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice')`)
	b := &bus{}
	r := stand(t, s.url, b, "a")
	eventually(t, "an event", func() bool { return b.head() == 1 })
	r.stop()
	dump := tool(t, server, "", "pg_dump", "-d", s.url)
	r = stand(t, s.url, b, "b")
	s.exec(`UPDATE videos SET processing_status = 'lost'`)
	eventually(t, "an event that the dump does not have", func() bool { return b.head() == 2 })
	r.stop()
	name := one[string](s, `SELECT log FROM reelay.state`)
	s.exec(`DROP SCHEMA reelay CASCADE; DROP TABLE videos`)
	tool(t, server, dump, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", s.url)
	s.exec(`UPDATE videos SET processing_status = 'ready'`)
	after := &bus{}
	stand(t, s.url, after, "c")
	eventually(t, "another event at the same position", func() bool { return after.head() == 2 })
	if now := after.all()[0].Log; now == name {
		t.Errorf("position 2 was given twice in the log %s", name)
	}
}

// What does not change the past does not change the name: restarts, takeovers, a VACUUM FULL.
func TestRestore_TheNameStaysOtherwise(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	url := server.New(t)
	b := &bus{}
	first := stand(t, url, b, "first")
	awaitLeader(t, b, 0)
	first.stop()
	name := b.all()[0].Log
	for i, change := range []func(){
		func() {},
		func() { connect(t, url).exec(`VACUUM FULL reelay.state`) },
		func() {
			if err := server.Restart(t.Context(), "immediate"); err != nil {
				t.Fatal(err)
			}
		},
		func() { migrate(t, url) },
	} {
		change()
		_, epoch := b.leader()
		r := stand(t, url, b, fmt.Sprint("r", i))
		awaitLeader(t, b, epoch)
		r.stop()
		if now := one[string](connect(t, url), `SELECT log FROM reelay.state`); now != name {
			t.Fatalf("change %d: the log's name went from %s to %s", i, name, now)
		}
	}
	// A copy of the database is another log, though it begins with the same name.
	if err := server.Do(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test_1'`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody is in the database, so it can be copied", func() bool {
		return server.Do(`CREATE DATABASE copy TEMPLATE test_1`) == nil
	})
	copied := server.URL("copy")
	if began := one[string](connect(t, copied), `SELECT log FROM reelay.state`); began != name {
		t.Fatalf("the copy begins with the name %s: the test needs %s", began, name)
	}
	other := &bus{}
	stand(t, copied, other, "other")
	awaitLeader(t, other, 0)
	if now := other.all()[0].Log; now == name {
		t.Errorf("the copy goes by the same name, %s", name)
	}
}
