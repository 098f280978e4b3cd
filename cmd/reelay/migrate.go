package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// migrateCommand is reelay migrate.
type migrateCommand struct {
	Database databaseFlags `embed:""`

	ServeRole string `placeholder:"ROLE" help:"Afterwards, give this role what reelay serve needs, and no more."`
	Status    bool   `help:"Only show which migrations are applied and which are not."`
}

// Help implements kong.HelpProvider.
func (*migrateCommand) Help() string {
	return `Everything lives in a schema of its own, reelay; your tables are not touched. The role of the database URL becomes
the owner of that schema and needs CREATE on the database. Running it again does no harm, two at once wait for each other.

Example:

    $ reelay migrate --database-url postgres://owner@localhost:5432/app --serve-role reelay
    applied  00001_log.sql (31ms)
    applied  00002_watch.sql (12ms)
    2 migrations applied
    role reelay may serve

Next: attach Reelay to a table with reelay watch.`
}

// Run implements command.
func (m *migrateCommand) Run(ctx context.Context, p *program) error {
	c := &checker{}
	url := m.Database.url(c)
	if err := c.err(); err != nil {
		return err
	}
	if m.Status {
		return m.status(ctx, p, url)
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	applied, err := p.database.migrate(ctx, url.Reveal(), log, func(_ int64, name string, took time.Duration) {
		_, _ = fmt.Fprintf(p.stdout, "applied  %s (%s)\n", name, took.Round(time.Millisecond))
	})
	if err != nil {
		return err
	}
	if applied == 0 {
		_, _ = fmt.Fprintln(p.stdout, "the schema is up to date")
	} else {
		_, _ = fmt.Fprintf(p.stdout, "%s applied\n", count(applied, "migration"))
	}
	if m.ServeRole == "" {
		return nil
	}
	if err := p.database.grantServe(ctx, url.Reveal(), m.ServeRole); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "role %s may serve\n", m.ServeRole)
	return err
}

func (*migrateCommand) status(ctx context.Context, p *program, url secretURL) error {
	migrations, err := p.database.status(ctx, url.Reveal())
	if err != nil {
		return err
	}
	pending := 0
	for _, migration := range migrations {
		state := "applied"
		if !migration.Applied {
			state = "pending"
			pending++
		}
		_, _ = fmt.Fprintf(p.stdout, "%s  %s\n", state, migration.Name)
	}
	if pending > 0 {
		_, err = fmt.Fprintf(p.stdout, "%s pending: run reelay migrate\n", count(pending, "migration"))
		return err
	}
	_, err = fmt.Fprintln(p.stdout, "the schema is up to date")
	return err
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
