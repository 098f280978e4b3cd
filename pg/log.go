package pg

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/reelay/reelay/hub"
)

const (
	// lanes is how many queries of each kind a replica has in flight, however many of its clients ask.
	lanes = 4
	// batchMost is how many of them one query answers.
	batchMost = 256
	// snapshotRows is how many rows a snapshot holds at the most.
	snapshotRows = 1000
	// queryLimit is how long a reader waits for Postgres.
	queryLimit = 5 * time.Second
)

// eventColumns are the columns of reelay.log in the order that scanEvent reads.
const eventColumns = "position, owner, sequence, outbox_id, subject, type, data, created_at"

// theState is the row of reelay.state, for FROM. It is looked for from the end where its latest version is: while somebody
// holds an old snapshot, all others are still there.
const theState = "(SELECT * FROM reelay.state ORDER BY generation DESC LIMIT 1)"

// Log reads the log and the watched tables for a replica. It implements hub.Log, and is safe for concurrent use. What
// many ask at once is answered by few queries; see batcher.
type Log struct {
	pool      *pgxpool.Pool
	metrics   *Metrics
	reads     *batcher[readRequest, hub.Page]
	newest    *batcher[readRequest, hub.Page]
	snapshots *batcher[snapshotRequest, hub.Snapshot]
}

type readRequest struct {
	owner hub.Owner
	after hub.Sequence
	limit int
}

// OpenLog returns a Log of the database that url leads to, by way of a pooler or not. It does not connect: Postgres may
// be away. Run closes it, or Close where Run is never called.
func OpenLog(ctx context.Context, url string, metrics *Metrics) (*Log, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, parseError(err)
	}
	// One for each query in flight: reads, snapshots, the newest, two for heads and checks, and one for revocations.
	config.MaxConns = 2*lanes + 4
	config.ConnConfig.ConnectTimeout = queryLimit
	config.ConnConfig.RuntimeParams["application_name"] = "reelay"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, parseError(err)
	}
	l := &Log{pool: pool, metrics: metrics}
	l.reads = newBatcher(l.readAll)
	l.newest = newBatcher(l.newestAll)
	l.snapshots = newBatcher(l.snapshotAll)
	return l, nil
}

// Close gives the connections back. It may be called again.
func (l *Log) Close() { l.pool.Close() }

// Run answers Read and Snapshot until ctx ends, and returns nil then.
func (l *Log) Run(ctx context.Context) error {
	defer l.pool.Close()
	group, ctx := errgroup.WithContext(ctx)
	for range lanes {
		group.Go(func() error { l.reads.work(ctx); return nil })
		group.Go(func() error { l.snapshots.work(ctx); return nil })
	}
	group.Go(func() error { l.newest.work(ctx); return nil }) // its queries are dear: one at a time
	return group.Wait()
}

// Check asks whether Postgres answers and has the schema: nil, an error that is Transient, or ErrNoSchema.
func (l *Log) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	var log string
	// The second table and the state's generation came later than the first: a schema without them is older than this binary.
	if err := l.pool.QueryRow(ctx, "SELECT s.log FROM "+theState+" s LEFT JOIN reelay.revocation r ON false").Scan(&log); err != nil {
		return schemaError(err, "look for the schema reelay")
	}
	return nil
}

// Secret returns at least 32 bytes that all replicas of this database know, and nobody else: reelay migrate made them
// at random. Keys are derived from it; it is no key itself. It goes into no log and no error.
func (l *Log) Secret(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	var secret []byte
	if err := l.pool.QueryRow(ctx, "SELECT secret FROM reelay.secret").Scan(&secret); err != nil {
		return nil, schemaError(err, "read the replicas' secret")
	}
	return secret, nil
}

// Read implements hub.Log.
func (l *Log) Read(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (hub.Page, error) {
	page, err := l.reads.ask(ctx, readRequest{owner, after, limit})
	if err != nil {
		return hub.Page{}, fmt.Errorf("read the log: %w", err)
	}
	return page, nil
}

// Newest implements hub.Log.
func (l *Log) Newest(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (hub.Page, error) {
	page, err := l.newest.ask(ctx, readRequest{owner, after, limit})
	if err != nil {
		return hub.Page{}, fmt.Errorf("read the newest of the log: %w", err)
	}
	return page, nil
}

func (l *Log) readAll(ctx context.Context, requests []readRequest) ([]hub.Page, error) {
	return l.pages(ctx, "read", requests, `
		SELECT `+eventColumns+`, min(sequence) OVER () FROM (
			SELECT * FROM reelay.log l
			WHERE l.owner = asked.owner AND l.sequence > asked.after ORDER BY l.sequence LIMIT asked.most
		) next`)
}

func (l *Log) newestAll(ctx context.Context, requests []readRequest) ([]hub.Page, error) {
	// The second column of DISTINCT ON is the event's topic, as the hub understands it: a row's own events are one.
	return l.pages(ctx, "newest", requests, `
		SELECT `+eventColumns+`, first FROM (
			SELECT DISTINCT ON (subject, CASE WHEN split_part(type, '.', 2) IN ('created', 'updated', 'deleted', 'removed', 'added') THEN '' ELSE type END)
				*, min(sequence) OVER () AS first
			FROM reelay.log l WHERE l.owner = asked.owner AND l.sequence > asked.after
			ORDER BY subject, CASE WHEN split_part(type, '.', 2) IN ('created', 'updated', 'deleted', 'removed', 'added') THEN '' ELSE type END, sequence DESC
		) newest ORDER BY sequence LIMIT asked.most`)
}

// pages answers many requests for events by one query. events selects what one of them, asked, is to get: eventColumns,
// and the first sequence after the one asked for that is kept.
func (l *Log) pages(ctx context.Context, kind string, requests []readRequest, events string) (pages []hub.Page, err error) {
	defer func() { l.metrics.queried(kind, len(requests), err) }()
	owners := make([]string, len(requests))
	after := make([]int64, len(requests))
	limits := make([]int32, len(requests))
	for i, r := range requests {
		owners[i], after[i], limits[i] = string(r.owner), int64(r.after), int32(r.limit)
	}
	rows, err := l.pool.Query(ctx, `
		SELECT asked.n, s.log, coalesce(h.sequence, 0), e.*
		FROM unnest($1::text[], $2::bigint[], $3::int[]) WITH ORDINALITY AS asked (owner, after, most, n)
		CROSS JOIN `+theState+` s
		LEFT JOIN reelay.owner_head h ON h.owner = asked.owner
		LEFT JOIN LATERAL (`+events+`) AS e (`+eventColumns+`, first) ON h.sequence > asked.after
		ORDER BY asked.n, e.sequence`, owners, after, limits)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	pages = make([]hub.Page, len(requests))
	for rows.Next() {
		var n, head int64
		var name string
		var event nullableEvent
		var first *int64
		if err := rows.Scan(append(append([]any{&n, &name, &head}, event.fields()...), &first)...); err != nil {
			return nil, err
		}
		page := &pages[n-1]
		page.Log, page.Head = name, hub.Sequence(head)
		if event.position != nil {
			page.First = hub.Sequence(*first)
			page.Events = append(page.Events, event.event())
		}
	}
	return pages, rows.Err()
}

// Changes implements hub.Log.
func (l *Log) Changes(ctx context.Context, after hub.Position) (hub.Heads, error) {
	return l.heads(ctx, "changes", `
		SELECT pg_is_in_recovery(), s.log, s.last_position, c.owner, c.sequence
		FROM `+theState+` s LEFT JOIN LATERAL (
			SELECT owner, max(sequence) AS sequence FROM reelay.log WHERE position > $1 GROUP BY owner
		) c ON s.last_position > $1`, after)
}

// Heads implements hub.Log.
func (l *Log) Heads(ctx context.Context, owners []hub.Owner) (hub.Heads, error) {
	return l.heads(ctx, "heads", `
		SELECT pg_is_in_recovery(), s.log, s.last_position, h.owner, h.sequence
		FROM `+theState+` s LEFT JOIN reelay.owner_head h ON h.owner = ANY ($1::text[])`, owners)
}

func (l *Log) heads(ctx context.Context, kind, query string, arg any) (heads hub.Heads, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	defer func() { l.metrics.queried(kind, 1, err) }()
	rows, err := l.pool.Query(ctx, query, arg)
	if err != nil {
		return hub.Heads{}, fmt.Errorf("read %s: %w", kind, err)
	}
	defer rows.Close()
	heads.Sequences = make(map[hub.Owner]hub.Sequence)
	for rows.Next() {
		var standby bool
		var owner *hub.Owner
		var sequence *hub.Sequence
		if err := rows.Scan(&standby, &heads.Log, &heads.Position, &owner, &sequence); err != nil {
			return hub.Heads{}, fmt.Errorf("read %s: %w", kind, err)
		}
		if standby {
			// These connections lead to what was the primary once. New ones may lead to the one that is.
			l.pool.Reset()
			return hub.Heads{}, fmt.Errorf("read %s: %w", kind, errReadOnly)
		}
		if owner != nil {
			heads.Sequences[*owner] = *sequence
		}
	}
	if err := rows.Err(); err != nil {
		return hub.Heads{}, fmt.Errorf("read %s: %w", kind, err)
	}
	return heads, nil
}

// nullableEvent is an event on the outer side of a join.
type nullableEvent struct {
	position, sequence, outboxID *int64
	owner, subject, kind         *string
	data                         []byte // not json.RawMessage; see collect
	time                         *time.Time
}

func (e *nullableEvent) fields() []any {
	return []any{&e.position, &e.owner, &e.sequence, &e.outboxID, &e.subject, &e.kind, &e.data, &e.time}
}

func (e *nullableEvent) event() *hub.Event {
	return &hub.Event{
		Position: hub.Position(*e.position), Owner: hub.Owner(*e.owner), Sequence: hub.Sequence(*e.sequence), OutboxID: *e.outboxID,
		Subject: *e.subject, Type: *e.kind, Data: e.data, Time: *e.time,
	}
}

// collect reads the events of a query that selects eventColumns.
func collect(rows pgx.Rows, err error) ([]*hub.Event, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*hub.Event, error) {
		e := new(hub.Event)
		// As the types that pgx knows: to find out what others are made of takes it as long as all the rest, and it reads
		// the JSON of a json.RawMessage only to copy it.
		err := row.Scan((*int64)(&e.Position), (*string)(&e.Owner), (*int64)(&e.Sequence), &e.OutboxID,
			&e.Subject, &e.Type, (*[]byte)(&e.Data), &e.Time)
		return e, err
	})
}
