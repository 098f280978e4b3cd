package api

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// refMost is the longest ref a client frame may carry, in bytes.
const refMost = 256

// clientFrame is what a client may send.
type clientFrame struct {
	Type   string          `json:"type"`
	Token  *string         `json:"token"`
	Videos []string        `json:"videos"`
	Ref    json.RawMessage `json:"ref"`
}

// parseClientFrame reads one frame: exactly one JSON object with the members that its type has, and no others. Any
// other input is errInvalidFrame; the frame is returned all the same, for its ref, if that could be read.
func parseClientFrame(message []byte) (clientFrame, *problem) {
	var frame clientFrame
	if !utf8.Valid(message) {
		return frame, errInvalidUTF8
	}
	decoder := json.NewDecoder(bytes.NewReader(message))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&frame); err != nil {
		return clientFrame{}, errInvalidFrame
	}
	if _, err := decoder.Token(); err != io.EOF {
		return clientFrame{}, errInvalidFrame
	}
	if len(frame.Ref) > refMost {
		return clientFrame{}, errInvalidFrame
	}
	var valid bool
	switch frame.Type {
	case "auth":
		valid = frame.Token != nil && frame.Videos == nil
	case "subscribe", "unsubscribe":
		valid = frame.Token == nil && len(frame.Videos) > 0
		if valid && !validVideos(frame.Videos) {
			return frame, errTooManyVideos
		}
	case "ping":
		valid = frame.Token == nil && frame.Videos == nil
	}
	if !valid {
		return frame, errInvalidFrame
	}
	return frame, nil
}
