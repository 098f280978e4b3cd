package main

import (
	"context"
	"database/sql"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the application speaks plain database/sql
)

// schema is the example application's: its table, and a log of its own of every committed change, written by a trigger
// that knows nothing of Reelay. That log is the truth which sessions are compared with.
//
// version counts the changes of a video. It is raised under the row's lock, so for one video it is the commit order.
const schema = `
CREATE TABLE videos (
	id text PRIMARY KEY,
	user_id text NOT NULL,
	processing_status text NOT NULL DEFAULT 'pending',
	version bigint NOT NULL DEFAULT 1
);
CREATE INDEX ON videos (user_id);
CREATE TABLE audit (
	n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind text NOT NULL,
	video text NOT NULL,
	version bigint NOT NULL,
	owner text NOT NULL,
	was_owner text NOT NULL,
	at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE TG_OP
	WHEN 'INSERT' THEN
		INSERT INTO audit (kind, video, version, owner, was_owner) VALUES ('created', NEW.id, NEW.version, NEW.user_id, '');
	WHEN 'UPDATE' THEN
		INSERT INTO audit (kind, video, version, owner, was_owner)
		VALUES (CASE WHEN NEW.user_id = OLD.user_id THEN 'updated' ELSE 'moved' END, NEW.id, NEW.version, NEW.user_id, OLD.user_id);
	ELSE
		INSERT INTO audit (kind, video, version, owner, was_owner) VALUES ('deleted', OLD.id, OLD.version + 1, OLD.user_id, '');
	END CASE;
	RETURN NULL;
END$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON videos FOR EACH ROW EXECUTE FUNCTION audit();
SELECT reelay.watch('videos', columns => '{processing_status,version}');
`

// item is one change of a video as one user is to see it. Removed and deleted videos have no version: nothing of the
// row is told then.
type item struct {
	Kind    string // of the event type, behind "video."
	Version int64
}

// truth is what each user was to be sent, and what the table holds in the end.
type truth struct {
	events map[string]map[string][]item // user → subject → items in commit order
	state  map[string]map[string]int64  // user → video → version
	total  int                          // events, over all users
}

func (t *truth) add(user, subject string, i item) {
	if t.events[user] == nil {
		t.events[user] = make(map[string][]item)
	}
	t.events[user][subject] = append(t.events[user][subject], i)
	t.total++
}

// readTruth reads the application's own log and table.
func readTruth(ctx context.Context, db *sql.DB) (*truth, error) {
	t := &truth{events: make(map[string]map[string][]item), state: make(map[string]map[string]int64)}
	rows, err := db.QueryContext(ctx, "SELECT kind, video, version, owner, was_owner FROM audit ORDER BY video, version, n")
	if err != nil {
		return nil, fmt.Errorf("read the application's log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind, video, owner, was string
		var version int64
		if err := rows.Scan(&kind, &video, &version, &owner, &was); err != nil {
			return nil, fmt.Errorf("read the application's log: %w", err)
		}
		switch kind {
		case "moved":
			t.add(was, video, item{Kind: "removed"})
			t.add(owner, video, item{Kind: "added", Version: version})
		case "deleted":
			t.add(owner, video, item{Kind: "deleted"})
		default:
			t.add(owner, video, item{Kind: kind, Version: version})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the application's log: %w", err)
	}
	return t, t.readState(ctx, db)
}

func (t *truth) readState(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT user_id, id, version FROM videos")
	if err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var user, video string
		var version int64
		if err := rows.Scan(&user, &video, &version); err != nil {
			return fmt.Errorf("read the table: %w", err)
		}
		if t.state[user] == nil {
			t.state[user] = make(map[string]int64)
		}
		t.state[user][video] = version
	}
	return rows.Err()
}
