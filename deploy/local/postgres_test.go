package local_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reelay/reelay/deploy/local"
)

func startPostgres(t *testing.T, options local.Options) *local.Postgres {
	t.Helper()
	needsServers(t)
	if options.Settings == nil {
		options.Settings = local.FastSettings()
	}
	p, err := local.StartPostgres(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func connect(t *testing.T, at string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query[T any](t *testing.T, at, sql string) T {
	t.Helper()
	var answer T
	if err := connect(t, at).QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func TestPostgres_AnswersOnBothAddresses(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, local.Options{Settings: map[string]string{"max_connections": "23"}})
	for _, at := range []string{p.URL("postgres"), p.SocketURL("template1")} {
		got := query[string](t, at, `SELECT concat_ws(' ', current_user, usesuper, current_setting('max_connections'),
			current_setting('fsync'), current_setting('server_encoding'), current_schema()) FROM pg_user WHERE usename = current_user`)
		if want := "postgres t 23 on UTF8 public"; got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
	}
}

func TestPostgres_RestartAndKillKeepWhatWasCommitted(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, local.Options{})
	at := p.URL("postgres")
	if _, err := connect(t, at).Exec(t.Context(), "CREATE TABLE kept (id int)"); err != nil {
		t.Fatal(err)
	}
	again := map[string]func() error{
		"fast":      func() error { return p.Restart(t.Context(), "fast") },
		"immediate": func() error { return p.Restart(t.Context(), "immediate") },
		"kill":      func() error { p.Kill(); return p.Start(t.Context()) },
	}
	for how, restart := range again {
		idle := connect(t, at)
		if _, err := idle.Exec(t.Context(), "INSERT INTO kept VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		before, done := p.PID(), p.Done()
		if err := restart(); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		select {
		case <-done:
		default:
			t.Fatalf("%s: Done of the old server is not closed", how)
		}
		if p.PID() == before || !gone(t, before) || p.URL("postgres") != at {
			t.Fatalf("%s: got pid %d at %s, want another than %d at %s", how, p.PID(), p.URL("postgres"), before, at)
		}
		if err := idle.Ping(t.Context()); err == nil {
			t.Fatalf("%s: a connection from before still works", how)
		}
	}
	if got := query[int](t, at, "SELECT count(*) FROM kept"); got != len(again) {
		t.Fatalf("got %d rows, want %d", got, len(again))
	}
	if err := p.Restart(t.Context(), "smart"); err == nil {
		t.Fatal("got nil for an unknown mode")
	}
	if err := p.Start(t.Context()); err == nil {
		t.Fatal("got nil for a second Start")
	}
}

// A backend in mid-query outlives its postmaster until the query is done, and while it does no server starts there.
func TestPostgres_KillLeavesNoBackend(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, local.Options{})
	busy := connect(t, p.URL("postgres"))
	ended := make(chan error, 1)
	go func() { // ends when the server is killed
		_, err := busy.Exec(t.Context(), "SELECT count(*) FROM (SELECT generate_series(1, 1e15)) AS endless")
		ended <- err
	}()
	if err := untilBusy(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	family := descendants(t, p.PID())
	p.Kill()
	for _, pid := range family {
		if !gone(t, pid) {
			t.Errorf("process %d is left after Kill", pid)
		}
	}
	if t.Failed() {
		return // the query goes on
	}
	if err := <-ended; err == nil {
		t.Error("the query ended well")
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	p.Kill() // twice does nothing
}

func TestPostgres_PauseFreezesEveryProcessOfIt(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, local.Options{})
	conn := connect(t, p.URL("postgres"))
	for range 3 {
		if err := errors.Join(p.Pause(), p.Pause()); err != nil {
			t.Fatal(err)
		}
		family := append(descendants(t, p.PID()), p.PID())
		eventually(t, "all are stopped", func() bool {
			_, stopped, err := local.ProcessTable()
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range family {
				if !stopped[pid] {
					return false
				}
			}
			return true
		})
		answer := make(chan error, 1)
		go func() { // ends when the server goes on
			_, err := conn.Exec(t.Context(), "SELECT 1")
			answer <- err
		}()
		if err := errors.Join(p.Resume(), p.Resume()); err != nil {
			t.Fatal(err)
		}
		if err := <-answer; err != nil {
			t.Fatalf("the connection from before the pause: %v", err)
		}
	}
}

func TestPostgres_StopRemovesTheFolderWhateverItsState(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*local.Postgres) error{
		"running": func(*local.Postgres) error { return nil },
		"paused":  (*local.Postgres).Pause,
		"killed":  func(p *local.Postgres) error { p.Kill(); return nil },
		"paused and killed": func(p *local.Postgres) error {
			err := p.Pause()
			p.Kill()
			return err
		},
		"stopped": func(p *local.Postgres) error { return p.Stop(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := startPostgres(t, local.Options{})
			if err := prepare(p); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(p.Folder()); !os.IsNotExist(err) {
				t.Fatalf("the folder: got %v, want it removed", err)
			}
			if !gone(t, p.PID()) {
				t.Fatal("the postmaster is left")
			}
		})
	}
}

func TestPostgres_StopKillsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, local.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want an error that says it was killed", err)
	}
	if !gone(t, p.PID()) {
		t.Fatal("the postmaster is left")
	}
}

func TestPostgres_StartSaysThatItsPortIsTaken(t *testing.T) {
	t.Parallel()
	p := startPostgres(t, local.Options{})
	p.Kill()
	at, err := url.Parse(p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Listen("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); !errors.Is(err, local.ErrPortTaken) {
		t.Fatalf("got %v, want %v", err, local.ErrPortTaken)
	}
	if err := stranger.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOnFreePort_TriesAnotherWhileThePortIsTaken(t *testing.T) {
	t.Parallel()
	tried := map[int]bool{}
	err := local.OnFreePort(t.Context(), func(port int) error {
		tried[port] = true
		if len(tried) < 3 {
			return local.ErrPortTaken
		}
		return nil
	})
	if err != nil || len(tried) != 3 {
		t.Fatalf("got %v after ports %v, want nil after three", err, tried)
	}
	broken := errors.New("broken")
	calls := 0
	if err := local.OnFreePort(t.Context(), func(int) error { calls++; return broken }); !errors.Is(err, broken) || calls != 1 {
		t.Fatalf("got %v after %d calls, want %v after one", err, calls, broken)
	}
}

func TestPostgres_AFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	needsServers(t)
	dir, err := os.MkdirTemp("/tmp", "localtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = local.StartPostgres(t.Context(), local.Options{Dir: dir, Settings: map[string]string{"max_connections": "many"}})
	if err == nil || !strings.Contains(err.Error(), "max_connections") {
		t.Fatalf("got %v, want what the server said", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Fatalf("got %v, %v in the folder, want nothing", left, err)
	}
}

func TestPostgres_AFolderTooLongForASocketIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 80))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := local.StartRedis(t.Context(), local.Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Fatalf("got %v, want that the path is too long", err)
	}
}

func TestPostgresBin_SaysWhatIsWrongWithTheSetting(t *testing.T) {
	t.Setenv("REELAY_PG_BIN", t.TempDir())
	if _, err := local.PostgresBin(t.Context()); err == nil || !strings.Contains(err.Error(), "REELAY_PG_BIN") {
		t.Fatalf("got %v, want an error that names the setting", err)
	}
}
