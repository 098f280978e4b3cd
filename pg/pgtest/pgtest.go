package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shared is the server of this test process.
var shared struct {
	once   sync.Once
	server *Server // nil if it did not start
	err    error
}

// New returns the URL of a fresh database with the schema reelay, as superuser local.PostgresUser. The database is
// dropped when the test ends, whoever is still connected.
func New(t testing.TB) string {
	t.Helper()
	return sharedServer(t).New(t)
}

// Main runs the tests of a package, stops the shared server, and looks for goroutines that were left behind. TestMain
// calls it; it does not return.
func Main(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = 1
		}
	}
	// After a failed test, goroutines that it left would only hide why it failed.
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func sharedServer(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Postgres; -short is without servers")
	}
	shared.once.Do(func() { shared.server, shared.err = start(nil) })
	if shared.err != nil {
		t.Fatalf("start a Postgres: %v", shared.err)
	}
	return shared.server
}
