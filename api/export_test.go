package api

import (
	"bytes"

	"github.com/reelay/reelay/hub"
)

// PrefersStream is prefersStream, for tests.
var PrefersStream = prefersStream

// AppendStreamed returns frames as they stand in an event stream.
func AppendStreamed(frames ...[]byte) []byte {
	var buffer bytes.Buffer
	for n, json := range frames {
		appendStreamed(&buffer, frame{json: json, cursor: hub.Cursor{Log: "log", Sequence: hub.Sequence(n)}})
	}
	return buffer.Bytes()
}
