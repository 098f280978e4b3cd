package hub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrMalformedCursor is what ParseCursor returns for anything that no Cursor's String could have made.
var ErrMalformedCursor = errors.New("malformed cursor")

// maxLogName bounds the name of a log, in bytes.
const maxLogName = 32

// Cursor is a place in the events of one owner: everything up to Sequence has been seen. A client keeps it as opaque
// text and shows it again to get what it missed.
type Cursor struct {
	// Log names the log that Sequence counts in. A database that was restored or made anew has a log of another name.
	Log string
	// Sequence is the last event seen; 0 is the place before the first.
	Sequence Sequence
}

// String returns the cursor's one spelling: the log's name, a dot, the sequence in decimal.
func (c Cursor) String() string {
	return c.Log + "." + strconv.FormatInt(int64(c.Sequence), 10)
}

// ParseCursor reads what String wrote, and nothing else: no sign, no leading zero, no space, nothing over 2^63-1.
// Any other text is ErrMalformedCursor.
func ParseCursor(text string) (Cursor, error) {
	if len(text) > maxLogName+20 {
		return Cursor{}, fmt.Errorf("%w: %d bytes long", ErrMalformedCursor, len(text))
	}
	log, digits, found := strings.Cut(text, ".")
	sequence, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil || !validLogName(log) {
		return Cursor{}, ErrMalformedCursor
	}
	c := Cursor{Log: log, Sequence: Sequence(sequence)}
	if sequence < 0 || c.String() != text {
		return Cursor{}, ErrMalformedCursor
	}
	return c, nil
}

func validLogName(name string) bool {
	if name == "" || len(name) > maxLogName {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}
