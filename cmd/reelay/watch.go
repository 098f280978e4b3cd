package main

import (
	"context"
	"fmt"

	"github.com/reelay/reelay/pg"
)

// watchCommand is reelay watch.
type watchCommand struct {
	Table string `arg:"" help:"The table to watch, with its schema where that is not in the search path."`

	Key     string   `placeholder:"id" help:"Column that names the row: the subject of its events."`
	Owner   string   `placeholder:"user_id" help:"Column that holds whose row it is: the user id of a token."`
	Columns []string `placeholder:"processing_status" help:"Columns whose change is an event."`
	Payload []string `placeholder:"COLUMN" help:"Columns that an event and a snapshot carry; the watched ones by default."`
	Prefix  string   `placeholder:"video" help:"Begins the types of the events, as in video.updated."`

	Database databaseFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (*watchCommand) Help() string {
	return `Puts triggers on the table, which write one row to Reelay's outbox for each change, in the transaction that makes it.
Called again, it changes the options of a table that is watched. What is left out has the default shown.

Examples:

    reelay watch videos
    reelay watch media.clips --key uuid --owner account --columns state,title --payload state,title,duration --prefix clip

Next: run a gateway with reelay serve, and follow a user's events with reelay tail.`
}

// Run implements command.
func (w *watchCommand) Run(ctx context.Context, p *program) error {
	c := &checker{}
	url := w.Database.url(c)
	if err := c.err(); err != nil {
		return err
	}
	warnings, err := p.database.watch(ctx, url.Reveal(), w.Table, pg.WatchOptions{
		Key: w.Key, Owner: w.Owner, Prefix: w.Prefix, Columns: w.Columns, Payload: w.Payload,
	})
	for _, warning := range warnings {
		_, _ = fmt.Fprintln(p.stderr, "reelay: warning:", warning)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "watching %s\n", w.Table)
	return err
}

// unwatchCommand is reelay unwatch.
type unwatchCommand struct {
	Table string `arg:"" help:"The table to leave alone."`

	Database databaseFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (*unwatchCommand) Help() string {
	return `Removes the triggers from the table. Events of changes that were committed before are still delivered; clients are not
told that there will be no more.

Example:

    reelay unwatch videos

Next: nothing; reelay watch attaches it again.`
}

// Run implements command.
func (u *unwatchCommand) Run(ctx context.Context, p *program) error {
	c := &checker{}
	url := u.Database.url(c)
	if err := c.err(); err != nil {
		return err
	}
	if err := p.database.unwatch(ctx, url.Reveal(), u.Table); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "no longer watching %s\n", u.Table)
	return err
}
