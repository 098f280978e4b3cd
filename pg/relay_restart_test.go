package pg_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/deploy/local"
	"github.com/reelay/reelay/pg/pgtest"
)

func TestRelay_RecoversWhenPostgresIsRestarted(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	url := server.New(t)
	connect(t, url).exec(watched)
	b := &bus{}
	r := stand(t, url, b, "a")
	_, epoch := awaitLeader(t, b, 0)
	for i, mode := range []string{"fast", "immediate", "immediate"} {
		connect(t, url).exec(`INSERT INTO videos VALUES ($1, 'alice')`, mode+strconv.Itoa(i))
		if i == 2 { // in the middle of being busy, with the flag up
			s := connect(t, url)
			eventually(t, "it stays awake", func() bool {
				s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress')`)
				return awake(s)
			})
		}
		if err := server.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, epoch = awaitLeader(t, b, epoch)
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("%s: it led %v after the server was ready, want at most 3 s", mode, took)
		}
		eventually(t, "the metric says leader", r.leads)
	}
	s := connect(t, url)
	s.exec(`INSERT INTO videos VALUES ('last', 'alice')`)
	eventually(t, "the last event", func() bool {
		events := b.events(t)
		return len(events) > 0 && events[len(events)-1].Subject == "last"
	})
	b.complete(s)
}

func TestRelay_WaitsForPostgresToCome(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t, nil)
	url := server.New(t)
	server.Kill()
	b := &bus{}
	stand(t, url, b, "a")
	stand(t, strings.Replace(url, "/test_1", "/test_2", 1), &bus{}, "b") // no such database, which may come too
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, b, 0)
}

// On a standby nobody can number. When it is promoted, one leads there by itself, and since events that were published
// elsewhere may be missing here, the log has another name.
func TestRelay_AStandbyServerIsLedOnlyWhenItIsPromoted(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewServer(t, nil)
	url := primary.New(t)
	s := connect(t, url)
	s.exec(watched)
	b := &bus{}
	stand(t, url, b, "on the primary")
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	eventually(t, "the event", func() bool { return b.head() == 1 })
	name := one[string](s, `SELECT log FROM reelay.state`)

	standbyURL := startStandby(t, primary, url)
	on := &bus{}
	r := stand(t, standbyURL, on, "on the standby")
	standby := connect(t, standbyURL)
	eventually(t, "it has asked the standby twice", func() bool { return r.ended("read_only") >= 2 })
	if len(on.all()) != 0 || r.leads() {
		t.Error("it leads on a standby")
	}
	standby.exec(`SELECT pg_promote()`)
	awaitLeader(t, on, 0)
	standby.exec(`INSERT INTO videos VALUES ('v2', 'alice')`)
	eventually(t, "the event", func() bool { return on.head() == 2 })
	if now := on.all()[0].Log; now == name {
		t.Error("the log of the promoted server has the name of the old one's")
	}
}

// startStandby copies the primary, starts a standby on the copy, and returns the same database's URL there.
func startStandby(t *testing.T, primary *pgtest.Server, databaseURL string) string {
	t.Helper()
	user, err := local.ServerUser()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("/tmp", "reelay-standby-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if user != nil {
		if err := os.Chown(folder, int(user.UID), int(user.GID)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(folder, "data")
	backup := run(t, user, program(t, primary, "pg_basebackup"), "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", primary.URL("postgres"))
	<-backup.Done()
	if err := backup.Err(); err != nil {
		t.Fatal(err)
	}
	// Only a unix socket, in a folder of its own: no port can be taken.
	// And no fewer connections than the primary, which it insists on.
	server := run(t, user, primary.Bin("postgres"), "-D", data, "-c", "listen_addresses=", "-c", "port=5432",
		"-c", "unix_socket_directories="+folder, "-c", "fsync=off", "-c", "max_connections=200", "-c", "max_prepared_transactions=10")
	at := "postgres://" + local.PostgresUser + "@/" + databaseURL[strings.LastIndex(databaseURL, "/")+1:strings.Index(databaseURL, "?")] +
		"?host=" + folder + "&port=5432"
	eventually(t, "the standby accepts connections", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, at)
		if err != nil {
			if server.Err() != nil {
				t.Fatal(server.Err())
			}
			return false
		}
		return conn.Close(ctx) == nil
	})
	return at
}

func run(t *testing.T, user *local.User, path string, args ...string) *local.Process {
	t.Helper()
	process, err := local.StartProcess(local.Command{Path: path, Args: args, User: user, Dir: "/", Env: []string{"LC_ALL=C"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return process
}
