package client

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Types of the gateway's own frames. Every other type is an event of the user's.
const (
	TypeReady      = "reelay.ready"
	TypeSnapshot   = "reelay.snapshot"
	TypeReset      = "reelay.reset"
	TypeSubscribed = "reelay.subscribed"
	TypeExpiring   = "reelay.expiring"
	TypeRenewed    = "reelay.renewed"
	TypeError      = "reelay.error"
	TypePong       = "reelay.pong"
)

// Frame is one message of the gateway: a CloudEvent 1.0 in JSON.
type Frame struct {
	// ID names the frame. For an event it is the cursor as well.
	ID string `json:"id"`
	// Source is "reelay" for events and "reelay/session" for the gateway's own frames.
	Source string `json:"source"`
	// Type says what happened, such as video.updated.
	Type string `json:"type"`
	// Subject is the id of the video; empty where a frame is about none.
	Subject string `json:"subject,omitempty"`
	// Time is when the change was made.
	Time time.Time `json:"time"`
	// Cursor is set on the gateway's own frames that move the client's cursor.
	Cursor string `json:"cursor,omitempty"`
	// Data is a JSON object, or empty where the frame carries none.
	Data json.RawMessage `json:"data,omitempty"`
	// Raw is the message as it came.
	Raw json.RawMessage `json:"-"`
}

// Own reports whether the frame is one of the gateway's own, rather than an event of the user's.
func (f Frame) Own() bool {
	// Either mark is enough. To take an own frame for an event would keep an id that is no cursor, and the next
	// connection would be refused for it.
	return f.Source == "reelay/session" || strings.HasPrefix(f.Type, "reelay.")
}

// Decode reads the frame's data into v, as json.Unmarshal does. A frame without data leaves v as it is.
func (f Frame) Decode(v any) error {
	if len(f.Data) == 0 {
		return nil
	}
	if err := json.Unmarshal(f.Data, v); err != nil {
		return fmt.Errorf("decode data of frame %s (%s): %w", f.ID, f.Type, err)
	}
	return nil
}

// moves returns the cursor that stands once the frame has been handled, or "" where the frame leaves it alone.
func (f Frame) moves() string {
	if f.Own() {
		return f.Cursor
	}
	return f.ID
}

// Session is what the gateway says of a connection in reelay.ready.
type Session struct {
	// ID names the connection in the gateway's log.
	ID string
	// User is whose events these are, as the gateway read it from the token.
	User string
	// Resumed is true when the cursor was honoured: nothing was missed and no snapshot is needed.
	Resumed bool
	// Heartbeat is how often the gateway sends a ping.
	Heartbeat time.Duration
	// Expires is when the token ends; zero if the gateway did not say.
	Expires time.Time
	// Replica names the replica that answered, where one is configured.
	Replica string
}

// defaultHeartbeat stands in where reelay.ready names none, or none that can be meant.
const defaultHeartbeat = 25 * time.Second

func readSession(ready Frame) (Session, error) {
	var data struct {
		Session   string    `json:"session"`
		User      string    `json:"user"`
		Resumed   bool      `json:"resumed"`
		Heartbeat float64   `json:"heartbeat"`
		Expires   time.Time `json:"expires"`
		Replica   string    `json:"replica"`
	}
	if err := ready.Decode(&data); err != nil {
		return Session{}, err
	}
	s := Session{
		ID: data.Session, User: data.User, Resumed: data.Resumed, Expires: data.Expires, Replica: data.Replica,
		Heartbeat: defaultHeartbeat,
	}
	if data.Heartbeat > 0 && data.Heartbeat <= time.Hour.Seconds() {
		s.Heartbeat = time.Duration(data.Heartbeat * float64(time.Second))
	}
	return s, nil
}
