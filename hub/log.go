package hub

import (
	"context"
	"encoding/json"
)

// Log is the truth: every event in Postgres, for as long as it is kept. Its methods are safe for concurrent use, and
// an error of any of them means: not now.
type Log interface {
	// Read returns the events of owner after a sequence, oldest first and without a hole, at most limit of them.
	Read(ctx context.Context, owner Owner, after Sequence, limit int) (Page, error)
	// Newest returns, of the events of owner after a sequence, the last one of each subject, oldest first, at most limit of
	// them. Events of an application's own count apart from those of the row, and by type, so that what became of a video
	// is not merged away by a later tick of its progress.
	Newest(ctx context.Context, owner Owner, after Sequence, limit int) (Page, error)
	// Snapshot returns the rows of owner as they stand, newest first, bounded; only those of keys, unless keys is nil.
	Snapshot(ctx context.Context, owner Owner, keys []string) (Snapshot, error)
	// Changes returns the owners that have events after a position, and their last sequences.
	Changes(ctx context.Context, after Position) (Heads, error)
	// Heads returns the last sequences of the owners named; an owner who never had an event is not in it.
	Heads(ctx context.Context, owners []Owner) (Heads, error)
}

// Page is what a Log answers to Read.
type Page struct {
	// Log is the name of the log; see Cursor.
	Log string
	// Head is the owner's last sequence at that moment; 0 if there never was an event.
	Head Sequence
	// First is the first sequence after the one asked for that is kept; 0 if there is none. Where there were events that
	// are not kept any more, it is not the next one.
	First Sequence
	// Events are what was asked for, oldest first.
	Events []*Event
}

// follows reports whether nothing is missing between a sequence that was asked for and the page.
func (p *Page) follows(after Sequence) bool { return p.First == after+1 || p.Head <= after }

// Snapshot is the state of an owner's rows at one moment.
type Snapshot struct {
	// Log is the name of the log; see Cursor.
	Log string
	// Head is the owner's last sequence at that moment. The rows contain every event up to it.
	Head Sequence
	// Pending names, by outbox id, the events that the rows contain but that had no sequence at that moment. They get
	// one after Head.
	Pending []int64
	// Rows are the owner's rows, newest first.
	Rows []Row
	// Truncated says that there are more rows than Rows holds.
	Truncated bool
}

// Row is one row of a watched table.
type Row struct {
	// Key is the row's key as text.
	Key string
	// Data is a JSON object of the payload columns.
	Data json.RawMessage
}

// Heads is how far the log has come for some owners, at one moment.
type Heads struct {
	// Log is the name of the log; see Cursor.
	Log string
	// Position is the log's last position.
	Position Position
	// Sequences has the last sequence of each owner.
	Sequences map[Owner]Sequence
}
