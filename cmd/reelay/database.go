package main

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reelay/reelay/pg"
)

const (
	databaseURLExample     = "postgres://reelay@db.example.com:5432/app"
	databaseURLFileExample = "/run/secrets/database_url"
)

// databaseFlags say where Postgres is. They belong to every command that speaks to it.
type databaseFlags struct {
	DatabaseURL     secretURL `setting:"REELAY_DATABASE_URL" group:"Database" placeholder:"URL" help:"Where Postgres is: postgres://user:password@host:5432/app, or postgres:///app?host=/var/run/postgresql for a socket."`
	DatabaseURLFile string    `setting:"REELAY_DATABASE_URL_FILE" group:"Database" placeholder:"PATH" help:"File that holds the database URL, instead of the setting itself."`
}

// url returns the database URL, from the setting or from its file.
func (f databaseFlags) url(c *checker) secretURL {
	const setting, fileSetting = "REELAY_DATABASE_URL", "REELAY_DATABASE_URL_FILE"
	switch {
	case !f.DatabaseURL.IsZero() && f.DatabaseURLFile != "":
		c.reject(fileSetting, databaseURLFileExample, "is set together with %s; keep one of them", setting)
	case f.DatabaseURLFile != "":
		text := c.file(fileSetting, f.DatabaseURLFile, databaseURLFileExample)
		if text != "" {
			checkURL(c, fileSetting, "a file with "+databaseURLExample, withoutSocket(text), "postgres", "postgresql")
		}
		return newSecretURL(text)
	case f.DatabaseURL.IsZero():
		c.reject(setting, databaseURLExample, "is not set")
	default:
		checkURL(c, setting, databaseURLExample, withoutSocket(f.DatabaseURL.Reveal()), "postgres", "postgresql")
	}
	return f.DatabaseURL
}

// withoutSocket returns a URL that net/url can read: libpq and pgx also take a socket's folder as host, with its slashes
// written as %2F.
func withoutSocket(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return text
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host := strings.LastIndex(rest[:end], "@") + 1
	return scheme + "://" + rest[:host] + strings.NewReplacer("%2F", "", "%2f", "").Replace(rest[host:end]) + rest[end:]
}

// checkURL checks a URL that may hold a password. Neither it nor the parser's error is repeated: the parser quotes what
// it stumbled over, and that can be a piece of the password.
func checkURL(c *checker, setting, example, text string, schemes ...string) {
	address, err := url.Parse(text)
	if err != nil {
		c.reject(setting, example, "is not a URL; in a password, write / as %%2F, @ as %%40, # as %%23 and %% as %%25")
		return
	}
	if slices.Contains(schemes, address.Scheme) {
		return
	}
	c.reject(setting, example, "does not begin with %s://", schemes[0])
}

// database is what the commands need of package pg. Tests put their own in its place.
type database struct {
	migrate    func(ctx context.Context, url string, log *slog.Logger, progress func(version int64, name string, took time.Duration)) (applied int, err error)
	status     func(ctx context.Context, url string) ([]pg.MigrationState, error)
	grantServe func(ctx context.Context, url, role string) error
	watch      func(ctx context.Context, url, table string, options pg.WatchOptions) (warnings []string, err error)
	unwatch    func(ctx context.Context, url, table string) error
}

func postgres() database {
	return database{
		migrate:    pg.Migrate,
		status:     pg.MigrationStatus,
		grantServe: pg.GrantServe,
		watch:      pg.Watch,
		unwatch:    pg.Unwatch,
	}
}
