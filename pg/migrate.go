package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/reelay/reelay/migrations"
)

// minServer is the oldest server that has what the leader's session needs (idle_session_timeout).
const minServer = 140000

// MigrationState is one numbered file of the schema.
type MigrationState struct {
	Version int64
	Name    string
	Applied bool
}

// Migrate brings the schema to the version of this binary, and returns how many migrations it applied. progress, if not
// nil, is called after each. Two that run at once wait for each other. The role becomes the owner of the schema.
func Migrate(ctx context.Context, url string, log *slog.Logger, progress func(version int64, name string, took time.Duration)) (int, error) {
	applied := 0
	err := withProvider(ctx, url, func(db *sql.DB, provider *goose.Provider) error {
		if err := createSchema(ctx, db); err != nil {
			return fmt.Errorf("create schema reelay: %w", err)
		}
		for {
			result, err := provider.UpByOne(ctx)
			if errors.Is(err, goose.ErrNoNextVersion) {
				return nil
			}
			if err != nil && Reason(err) == "lock_timeout" {
				return fmt.Errorf("migrate: %w\n  hint: somebody has used a table of Reelay's for longer than 2 s: a dump, or an open reelay.watch; "+
					"this migration has changed nothing: run reelay migrate again when that has ended", err)
			}
			if err != nil {
				return fmt.Errorf("migrate: %w", err)
			}
			applied++
			log.DebugContext(ctx, "migration applied", "version", result.Source.Version, "took", result.Duration)
			if progress != nil {
				progress(result.Source.Version, result.Source.Path, result.Duration)
			}
		}
	})
	return applied, describe(err)
}

// createSchema makes the schema, which holds the table of migrations too. Of two that run at once, one would find no
// schema and then be unable to make it, IF NOT EXISTS or not; so one waits for the other.
func createSchema(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('reelay.migrate', 0))"); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS reelay"); err != nil {
		return err
	}
	return tx.Commit()
}

// MigrationStatus returns every migration of this binary, oldest first.
func MigrationStatus(ctx context.Context, url string) ([]MigrationState, error) {
	var states []MigrationState
	err := withProvider(ctx, url, func(db *sql.DB, provider *goose.Provider) error {
		var exists bool
		if err := db.QueryRowContext(ctx, "SELECT to_regclass('reelay.migration') IS NOT NULL").Scan(&exists); err != nil {
			return fmt.Errorf("migration status: %w", err)
		}
		if !exists {
			for _, source := range provider.ListSources() {
				states = append(states, MigrationState{Version: source.Version, Name: source.Path})
			}
			return nil
		}
		all, err := provider.Status(ctx)
		if err != nil {
			return fmt.Errorf("migration status: %w", err)
		}
		for _, s := range all {
			states = append(states, MigrationState{Version: s.Source.Version, Name: s.Source.Path, Applied: s.State == goose.StateApplied})
		}
		return nil
	})
	return states, describe(err)
}

// GrantServe gives role what reelay serve needs, and no more.
func GrantServe(ctx context.Context, url, role string) error {
	return withConn(ctx, url, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT reelay.grant_serve($1)", role); err != nil {
			return fmt.Errorf("grant role %s what serve needs: %w", role, err)
		}
		return nil
	})
}

func withProvider(ctx context.Context, url string, do func(*sql.DB, *goose.Provider) error) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return parseError(err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	var version int
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if version < minServer {
		return fmt.Errorf("the server is PostgreSQL %d: Reelay needs 14 or newer", version/10000)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	store, err := database.NewStore(database.DialectPostgres, "reelay.migration")
	if err != nil {
		return fmt.Errorf("migration store: %w", err)
	}
	provider, err := goose.NewProvider("", db, migrations.FS, goose.WithStore(store), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return do(db, provider)
}

func withConn(ctx context.Context, url string, do func(*pgx.Conn) error) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return parseError(err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return describe(do(conn))
}
