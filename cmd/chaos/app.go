package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
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
-- An event of the application's own. In a session's record it has its type as its kind, but for the word video.
CREATE FUNCTION tell(owner text, subject text, type text, version bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit (kind, video, version, owner, was_owner) VALUES (regexp_replace(type, '^video\.', ''), subject, version, owner, '');
	PERFORM reelay.emit(owner, subject, type, jsonb_build_object('version', version));
END$$;
SELECT reelay.watch('videos', columns => '{processing_status,version}');
`

// narrowPartitions makes the log's partitions smaller, before there is anything in them: then one can be full, and be
// trimmed, within a test.
const narrowPartitions = `
CREATE OR REPLACE FUNCTION reelay.partition_width() RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT %d::bigint';
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reelay.log'::regclass LOOP
		EXECUTE 'DROP TABLE ' || name;
	END LOOP;
END$$;
SELECT reelay.extend_log();
`

// item is one change of a video as one user is to see it, or an event of the application's own. Removed and deleted
// videos have no version: nothing of the row is told then.
type item struct {
	Kind    string // the event's type, without the word video
	Version int64
}

// ofRow says whether a snapshot of the rows contains what the item told.
func (i item) ofRow() bool {
	return slices.Contains([]string{"created", "updated", "added", "removed", "deleted"}, i.Kind)
}

// change is an item with the moment, before its commit, at which it was made.
type change struct {
	item
	at time.Time
}

// truth is what each user was to be sent since some moment, and what the table holds in the end.
type truth struct {
	events map[string]map[string][]change // user → subject → changes in commit order
	state  map[string]map[string]int64    // user → video → version
	total  int                            // events, over all users
	last   int64                          // of the application's log
}

func newTruth() *truth {
	return &truth{events: make(map[string]map[string][]change), state: make(map[string]map[string]int64)}
}

func (t *truth) add(user, subject string, c change) {
	if t.events[user] == nil {
		t.events[user] = make(map[string][]change)
	}
	t.events[user][subject] = append(t.events[user][subject], c)
	t.total++
}

func (t *truth) hold(user, video string, version int64) {
	if t.state[user] == nil {
		t.state[user] = make(map[string]int64)
	}
	t.state[user][video] = version
}

// readTruth reads the application's own log behind a number of it, and its table. Nobody writes meanwhile.
func readTruth(ctx context.Context, db *sql.DB, since int64) (*truth, error) {
	t := newTruth()
	t.last = since
	rows, err := db.QueryContext(ctx, "SELECT n, kind, video, version, owner, was_owner, at FROM audit WHERE n > $1 ORDER BY video, version, n", since)
	if err != nil {
		return nil, fmt.Errorf("read the application's log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind, video, owner, was string
		var n, version int64
		var at time.Time
		if err := rows.Scan(&n, &kind, &video, &version, &owner, &was, &at); err != nil {
			return nil, fmt.Errorf("read the application's log: %w", err)
		}
		t.last = max(t.last, n)
		switch kind {
		case "moved":
			t.add(was, video, change{item{Kind: "removed"}, at})
			t.add(owner, video, change{item{Kind: "added", Version: version}, at})
		case "deleted":
			t.add(owner, video, change{item{Kind: "deleted"}, at})
		default:
			t.add(owner, video, change{item{Kind: kind, Version: version}, at})
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
		t.hold(user, video, version)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	return nil
}
