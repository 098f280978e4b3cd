package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"unicode/utf8"
)

// refMost is the longest ref a client frame may carry, in bytes.
const refMost = 256

// clientFrame is what a client may send.
type clientFrame struct {
	Type   string
	Token  string
	Videos []string
	Ref    json.RawMessage
}

// parseClientFrame reads one frame: exactly one JSON object with the members that its type has, each once, and no
// others. Any other input is a problem; the frame is returned all the same, for its ref, if that could be read.
// It may name videosMost videos.
func parseClientFrame(message []byte, videosMost int) (clientFrame, *problem) {
	if !utf8.Valid(message) {
		return clientFrame{}, errInvalidUTF8
	}
	members, err := decodeMembers(message)
	if err != nil {
		return clientFrame{}, errInvalidFrame
	}
	var frame clientFrame
	take := func(name string, to any) bool {
		raw, present := members[name]
		delete(members, name)
		return present && string(raw) != "null" && json.Unmarshal(raw, to) == nil
	}
	if _, present := members["ref"]; present && (!take("ref", &frame.Ref) || len(frame.Ref) > refMost) {
		return clientFrame{}, errInvalidFrame
	}
	valid := take("type", &frame.Type)
	switch frame.Type {
	case "auth":
		valid = valid && take("token", &frame.Token)
	case "subscribe", "unsubscribe":
		valid = valid && take("videos", &frame.Videos) && len(frame.Videos) > 0
	case "ping":
	default:
		valid = false
	}
	switch {
	case !valid || len(members) > 0:
		return clientFrame{Ref: frame.Ref}, errInvalidFrame
	case len(frame.Videos) > videosMost:
		return clientFrame{Ref: frame.Ref}, errTooManyVideos
	case slices.ContainsFunc(frame.Videos, invalidVideo):
		return clientFrame{Ref: frame.Ref}, errInvalidVideo
	}
	return frame, nil
}

// decodeMembers reads one JSON object. encoding/json alone takes TYPE for type, and the last of two members of a name;
// whoever checks frames on their way here could have taken the first.
func decodeMembers(message []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(message))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errInvalidFrame
	}
	members := make(map[string]json.RawMessage)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		key, isString := name.(string)
		if _, again := members[key]; again || !isString {
			return nil, errInvalidFrame
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		members[key] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errInvalidFrame
	}
	return members, nil
}
