package pg_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/deploy/local"
	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// refuses checks that a Relay gives up on a URL, since trying again cannot help, and has not led.
func refuses(t *testing.T, s *session, url string) {
	t.Helper()
	relay := pg.NewRelay(pg.RelayConfig{URL: url, Log: discard, Metrics: pg.NewMetrics(nil)}, port{&bus{}, "a"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := relay.Run(ctx); !errors.Is(err, pg.ErrPooler) || pg.Transient(err) {
		t.Errorf("got %v, want %v", err, pg.ErrPooler)
	}
	if n := one[int](s, `SELECT epoch FROM reelay.state`); n != 0 {
		t.Errorf("it has led, in epoch %d", n)
	}
}

// Behind a pooler the session that answers is not the one that the connection was made to, which shows in the number
// of the server process.
func TestRelay_RefusesAServerProcessThatIsNotTheConnections(t *testing.T) {
	t.Parallel()
	s := open(t)
	proxy := pgtest.NewProxy(t, s.url)
	proxy.Rewrite(func(piece []byte) {
		// BackendKeyData: 'K', a length, the process, a secret. Nothing that looks like it comes before it.
		if at := strings.Index(string(piece), "K\x00\x00\x00\x0c"); at >= 0 {
			piece[at+8]++
		}
	})
	refuses(t, s, proxy.URL())
}

// The real thing, where it is installed.
func TestRelay_RefusesPgBouncer(t *testing.T) {
	t.Parallel()
	s := open(t)
	bouncer, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not installed")
	}
	user, err := local.ServerUser()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("/tmp", "reelay-bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	settings := filepath.Join(folder, "pgbouncer.ini")
	err = os.WriteFile(settings, fmt.Appendf(nil, `
[databases]
* = host=127.0.0.1 port=%d user=%s
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = 1
`, pgtest.Shared(t).Port(), local.PostgresUser, folder), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if user != nil {
		if err := os.Chown(folder, int(user.UID), int(user.GID)); err != nil {
			t.Fatal(err)
		}
	}
	process, err := local.StartProcess(local.Command{Path: bouncer, Args: []string{settings}, User: user, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	database := strings.TrimPrefix(s.conn.Config().Database, "/")
	url := "postgres://" + local.PostgresUser + "@/" + database + "?host=" + folder + "&port=6432&default_query_exec_mode=simple_protocol"
	var pooled *pgx.Conn
	eventually(t, "pgbouncer answers", func() bool {
		if process.Err() != nil {
			t.Fatal(process.Err())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		pooled, err = pgx.Connect(ctx, url)
		return err == nil
	})
	defer func() { _ = pooled.Close(context.Background()) }()
	refuses(t, s, strings.Replace(url, "&default_query_exec_mode=simple_protocol", "", 1))
	// The session goes on to serve others, and must be as it was.
	var limit string
	if err := pooled.QueryRow(t.Context(), "SELECT current_setting('lock_timeout') || current_setting('application_name')").Scan(&limit); err != nil || limit != "0" {
		t.Errorf("the pooled session was left with %q, %v", limit, err)
	}
}
