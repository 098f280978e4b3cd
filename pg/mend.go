package pg

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// mendEvery is how often the leader looks whether watched tables have changed. Until it has looked, a writer of a table
// whose column was renamed pays for finding the new name at each row, and snapshots of that table fail.
const mendEvery = 5 * time.Second

// mend writes anew the functions of watched tables that have changed, and tells what is left for the operator, on a
// connection of its own: what waits for a lock must not hold up the drain.
func (r *Relay) mend(ctx context.Context) error {
	defer r.metrics.watchProblems.Set(0) // the next leader tells
	var told []string
	failing := false
	for {
		var mended int
		var problems []string
		err := withConn(ctx, r.url, func(conn *pgx.Conn) error {
			limited, cancel := context.WithTimeout(ctx, queryLimit)
			defer cancel()
			if err := conn.QueryRow(limited, "SELECT reelay.mend_watched()").Scan(&mended); err != nil {
				return fmt.Errorf("mend: %w", err)
			}
			rows, err := conn.Query(limited, "SELECT * FROM reelay.watch_problems()")
			if err == nil {
				problems, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			if err != nil {
				return fmt.Errorf("look for problems: %w", err)
			}
			return nil
		})
		switch {
		case err != nil:
			if !failing && ctx.Err() == nil {
				r.log.WarnContext(ctx, "watched tables not looked after, trying again", "err", err, "in", mendEvery)
			}
			failing = true
		default:
			if mended > 0 {
				r.log.InfoContext(ctx, "watched tables have changed, their functions were written anew", "functions", mended)
			}
			for _, problem := range problems {
				if !slices.Contains(told, problem) {
					r.log.WarnContext(ctx, "a watched table has changed: call reelay.watch again", "problem", problem)
				}
			}
			r.metrics.watchProblems.Set(float64(len(problems)))
			told, failing = problems, false
		}
		if pause(ctx, mendEvery) != nil {
			return nil
		}
	}
}
