package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/reelay/reelay/hub"
)

// snapshotPage is how many videos one frame of a snapshot holds.
const snapshotPage = 100

// timeFormat is RFC 3339 in UTC with microseconds, which is what Postgres has.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// frame is what a client is sent: JSON, and the cursor that stands behind it.
type frame struct {
	json   []byte
	cursor hub.Cursor // without a log: the frame does not move it
}

// encodeEvent makes the frame of a user's event: a CloudEvent 1.0 in its JSON format.
func encodeEvent(e *hub.Event, id hub.Cursor) []byte {
	frame := make([]byte, 0, 192+len(e.Subject)+len(e.Data))
	frame = append(frame, `{"specversion":"1.0","id":"`...)
	frame = append(frame, id.String()...) // [a-z0-9.] only
	frame = append(frame, `","source":"reelay","type":`...)
	frame = appendString(frame, e.Type)
	frame = append(frame, `,"subject":`...)
	frame = appendString(frame, e.Subject)
	frame = append(frame, `,"time":"`...)
	frame = e.Time.UTC().AppendFormat(frame, timeFormat)
	frame = append(frame, '"')
	if e.Data != nil {
		frame = append(frame, `,"datacontenttype":"application/json","data":`...)
		frame = append(frame, e.Data...)
	}
	return append(frame, '}')
}

// appendString appends text as JSON, as json.Marshal would write it.
func appendString(to []byte, text string) []byte {
	if isPlain(text) {
		to = append(to, '"')
		to = append(to, text...)
		return append(to, '"')
	}
	encoded, err := json.Marshal(text)
	if err != nil {
		panic(fmt.Sprintf("a string cannot be encoded: %v", err)) // encoding/json replaces what is no UTF-8
	}
	return append(to, encoded...)
}

// isPlain tells whether JSON has nothing to escape in text: types, and nearly all keys.
func isPlain(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// ownFrame is a frame of the gateway itself. Its id counts the frames of one connection.
type ownFrame struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Time            string `json:"time"`
	Cursor          string `json:"cursor,omitempty"`
	DataContentType string `json:"datacontenttype"`
	Data            any    `json:"data"`
}

// The data of the gateway's own frames.
type (
	readyData struct {
		Session   string    `json:"session"`
		User      string    `json:"user"`
		Resumed   bool      `json:"resumed"`
		Heartbeat float64   `json:"heartbeat"` // seconds
		Expires   time.Time `json:"expires"`
		Replica   string    `json:"replica,omitempty"`
	}
	snapshotData struct {
		Videos    []json.RawMessage `json:"videos"`
		Last      bool              `json:"last"`
		Truncated bool              `json:"truncated"`
	}
	resetData struct {
		Reason hub.Reason `json:"reason"`
	}
	subscribedData struct {
		Videos  []string        `json:"videos"`
		Unknown []string        `json:"unknown"`
		Ref     json.RawMessage `json:"ref,omitempty"`
	}
	expiresData struct {
		Expires time.Time       `json:"expires"`
		Ref     json.RawMessage `json:"ref,omitempty"`
	}
	pongData struct {
		Ref json.RawMessage `json:"ref,omitempty"`
	}
	errorData struct {
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Hint    string          `json:"hint"`
		Ref     json.RawMessage `json:"ref,omitempty"`
	}
)

// encodeOwn makes a frame of the gateway. cursor is nil where the frame does not move it.
func encodeOwn(session string, number int, kind string, cursor *hub.Cursor, data any) []byte {
	frame := ownFrame{
		SpecVersion: "1.0", ID: session + "-" + strconv.Itoa(number), Source: "reelay/session", Type: "reelay." + kind,
		Time: time.Now().UTC().Format(timeFormat), DataContentType: "application/json", Data: data,
	}
	if cursor != nil {
		frame.Cursor = cursor.String()
	}
	encoded, err := json.Marshal(frame)
	if err != nil {
		panic(fmt.Sprintf("a frame reelay.%s cannot be encoded: %v", kind, err)) // all members are ours, and RawMessages were parsed
	}
	return encoded
}

// snapshotPages cuts a snapshot into the data of frames. There is at least one.
func snapshotPages(snapshot hub.Snapshot) ([]snapshotData, error) {
	pages := []snapshotData{{Videos: []json.RawMessage{}}}
	for _, row := range snapshot.Rows {
		video, err := encodeVideo(row)
		if err != nil {
			return nil, err
		}
		page := &pages[len(pages)-1]
		if len(page.Videos) == snapshotPage {
			pages = append(pages, snapshotData{})
			page = &pages[len(pages)-1]
		}
		page.Videos = append(page.Videos, video)
	}
	last := &pages[len(pages)-1]
	last.Last, last.Truncated = true, snapshot.Truncated
	return pages, nil
}

// encodeVideo puts the row's key among its columns, as id. A payload column of that name gives way: the key as text is
// what events name the video by.
func encodeVideo(row hub.Row) (json.RawMessage, error) {
	columns := make(map[string]json.RawMessage)
	if err := json.Unmarshal(row.Data, &columns); err != nil {
		return nil, fmt.Errorf("columns of a snapshot: %w", err)
	}
	columns["id"] = appendString(nil, row.Key)
	return json.Marshal(columns)
}
