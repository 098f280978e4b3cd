package hub

import (
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// Owner is the id of the user who owns a row, exactly as it stands in the owner column, read as text.
// Its bytes are opaque: nothing may be derived from them, and whoever puts them into a channel name, a log line or a
// query encodes them first.
type Owner string

// Position numbers every event of the log, over all owners: gapless, ever growing, given by the leader.
// Replicas and the relay think in positions. No client ever sees one, since it would tell about everybody's traffic.
type Position int64

// Sequence numbers the events of one owner: gapless, ever growing, first 1. A hole in it shows at the next event.
type Sequence int64

// Epoch counts leaders: each new one raises it. What carries a lower epoch than one already seen comes from a leader
// that has been replaced, and is refused.
type Epoch int64

// Event is one change of one watched row, or one event an application emitted. It is immutable once it has been
// handed to a Hub, and shared by all sessions of its owner.
type Event struct {
	Position Position
	Owner    Owner
	Sequence Sequence
	// OutboxID is the id the event had before it had a position. A snapshot names by it what it contains already.
	OutboxID int64
	// Type is the event's type, such as video.updated.
	Type string
	// Subject is the row's key as text.
	Subject string
	// Data is a JSON object, or nil where the event carries nothing of the row.
	Data json.RawMessage
	// Time is when the change was made.
	Time time.Time

	frame struct {
		sync.Once
		bytes []byte
	}
}

// Frame returns what encode makes of the event, whose cursor is id. It calls encode once in the event's life, however
// many sessions ask: an event is encoded once per replica. It is safe for concurrent use.
func (e *Event) Frame(id Cursor, encode func(*Event, Cursor) []byte) []byte {
	e.frame.Do(func() { e.frame.bytes = encode(e, id) })
	return e.frame.bytes
}

// topic is what an event is about, of its subject: "" for the row itself, or the type of an application's own event. Of
// events with one subject and topic, the last says it all; see Log.Newest.
func (e *Event) topic() string {
	_, kind, _ := strings.Cut(e.Type, ".")
	switch kind {
	case "created", "updated", "deleted", "removed", "added":
		return ""
	}
	return e.Type
}
