package pg

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/reelay/reelay/hub"
)

type snapshotRequest struct {
	owner hub.Owner
	keys  []string
}

// Snapshot implements hub.Log.
func (l *Log) Snapshot(ctx context.Context, owner hub.Owner, keys []string) (hub.Snapshot, error) {
	snapshot, err := l.snapshots.ask(ctx, snapshotRequest{owner, keys})
	if err != nil {
		return hub.Snapshot{}, fmt.Errorf("read a snapshot: %w", err)
	}
	return snapshot, nil
}

func (l *Log) snapshotAll(ctx context.Context, requests []snapshotRequest) (snapshots []hub.Snapshot, err error) {
	defer func() { l.metrics.queried("snapshot", len(requests), err) }()
	owners := make([]string, len(requests))
	keys := make([]*string, len(requests)) // a JSON array each, since arrays of arrays must be of one length
	for i, r := range requests {
		owners[i] = string(r.owner)
		if r.keys != nil {
			encoded, err := json.Marshal(r.keys)
			if err != nil {
				return nil, err
			}
			text := string(encoded)
			keys[i] = &text
		}
	}
	// One statement, so one snapshot: the rows, the head and what is committed without a sequence belong together.
	rows, err := l.pool.Query(ctx, `
		SELECT asked.n, s.log, coalesce(h.sequence, 0), pending.ids, r.key, r.data
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (owner, keys, n)
		CROSS JOIN `+theState+` s
		LEFT JOIN reelay.owner_head h ON h.owner = asked.owner
		LEFT JOIN (SELECT owner, array_agg(id) AS ids FROM reelay.outbox WHERE owner = ANY ($1) GROUP BY owner) pending ON pending.owner = asked.owner
		LEFT JOIN LATERAL reelay.snapshot(asked.owner,
			CASE WHEN asked.keys IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(asked.keys::jsonb)) END, $3) WITH ORDINALITY AS r (key, data, place) ON true
		ORDER BY asked.n, r.place`, owners, keys, snapshotRows+1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	snapshots = make([]hub.Snapshot, len(requests))
	for rows.Next() {
		var n int64
		var head hub.Sequence
		var name string
		var pending []int64
		var key *string
		var data []byte // not json.RawMessage; see collect
		if err := rows.Scan(&n, &name, &head, &pending, &key, &data); err != nil {
			return nil, err
		}
		snapshot := &snapshots[n-1]
		snapshot.Log, snapshot.Head, snapshot.Pending = name, head, pending
		switch {
		case key == nil: // no rows
		case len(snapshot.Rows) == snapshotRows:
			snapshot.Truncated = true
		default:
			snapshot.Rows = append(snapshot.Rows, hub.Row{Key: *key, Data: data})
		}
	}
	return snapshots, rows.Err()
}
