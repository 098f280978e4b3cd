package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNotInstalled is what a Start function returns when it does not find the server's program.
var ErrNotInstalled = errors.New("not installed")

// postgresPlaces are where packages put Postgres without putting it into PATH.
var postgresPlaces = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // PGDG on Red Hat
	"/usr/libexec/postgresql*",           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// PostgresBin returns the folder of Postgres's programs: REELAY_PG_BIN if it is set, else that of pg_config or initdb
// in PATH, else the newest version where packages usually put it.
func PostgresBin(ctx context.Context) (string, error) {
	if dir := os.Getenv("REELAY_PG_BIN"); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("REELAY_PG_BIN=%s: no initdb and postgres in there", dir)
		}
		return filepath.Abs(dir) // the programs run in another folder
	}
	if path, err := exec.LookPath("pg_config"); err == nil {
		//nolint:gosec // It is the pg_config of whoever runs this.
		out, err := exec.CommandContext(ctx, path, "--bindir").Output()
		// The client's package has a pg_config too, so what it names may lack the server.
		if dir := strings.TrimSpace(string(out)); err == nil && hasServer(dir) {
			return dir, nil
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && hasServer(filepath.Dir(path)) {
			return filepath.Dir(path), nil
		}
	}
	var found []string
	for _, place := range postgresPlaces {
		dirs, err := filepath.Glob(place)
		if err != nil {
			return "", fmt.Errorf("look for Postgres in %s: %w", place, err)
		}
		found = append(found, slices.DeleteFunc(dirs, func(dir string) bool { return !hasServer(dir) })...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL's server is %w: %s; or set REELAY_PG_BIN to the folder of initdb and postgres",
			ErrNotInstalled, installHint("postgresql", "postgresql"))
	}
	return slices.MaxFunc(found, func(a, b string) int { return major(a) - major(b) }), nil
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

var digits = regexp.MustCompile(`\d+`)

// major reads the version from a folder's name; 0 when there is none.
func major(dir string) int {
	n, err := strconv.Atoi(digits.FindString(dir))
	if err != nil {
		return 0
	}
	return n
}

// installHint says how to get a program on this kind of machine.
func installHint(debian, homebrew string) string {
	if runtime.GOOS == "darwin" {
		return "run make deps, or brew install " + homebrew
	}
	return "run make deps, or apt-get install " + debian
}
