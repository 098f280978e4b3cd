package pg

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// WatchOptions says how a table is watched. What is empty is left to the defaults of the SQL function reelay.watch.
type WatchOptions struct {
	Key, Owner, Prefix string
	Columns, Payload   []string
}

// Watch attaches Reelay to a table, or changes how it is attached. The warnings are the server's, with their hints.
func Watch(ctx context.Context, url, table string, options WatchOptions) (warnings []string, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, parseError(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.SeverityUnlocalized == "WARNING" {
			warnings = append(warnings, strings.TrimSpace(notice.Message+"\n  hint: "+notice.Hint))
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	call, args := "SELECT reelay.watch($1", []any{table}
	add := func(name string, value any, given bool) {
		if given {
			args = append(args, value)
			call += fmt.Sprintf(", %s => $%d", name, len(args))
		}
	}
	add("key", options.Key, options.Key != "")
	add("owner", options.Owner, options.Owner != "")
	add("prefix", options.Prefix, options.Prefix != "")
	add("columns", options.Columns, options.Columns != nil)
	add("payload", options.Payload, options.Payload != nil)
	if _, err := conn.Exec(ctx, call+")", args...); err != nil {
		return warnings, describe(schemaError(err, "watch "+table))
	}
	return warnings, nil
}

// Unwatch detaches Reelay from a table. Events that were committed before are still delivered.
func Unwatch(ctx context.Context, url, table string) error {
	return withConn(ctx, url, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT reelay.unwatch($1)", table); err != nil {
			return schemaError(err, "unwatch "+table)
		}
		return nil
	})
}
