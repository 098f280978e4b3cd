package pg_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/reelay/reelay/pg/pgtest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(leaderEnv); url != "" {
		fmt.Fprintln(os.Stderr, playLeader(url))
		os.Exit(1)
	}
	pgtest.Main(m)
}
