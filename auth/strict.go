package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the objects and arrays inside one another. Tokens of the common issuers nest four deep.
const maxDepth = 16

// What decodeObject refuses. None of them quotes the input: encoding/json's own errors do, so they are not passed on.
var (
	errNotUTF8       = errors.New("not UTF-8")
	errHalfSurrogate = errors.New("half of a surrogate pair")
	errTooDeep       = errors.New("nested too deep")
	errNotJSON       = errors.New("not JSON")
	errNotObject     = errors.New("not a JSON object")
	errDuplicate     = errors.New("the same member twice")
)

// decodeObject reads a JSON object that has one meaning to every reader: I-JSON (RFC 7493) with bounded depth.
// Members are found by their exact name. Values are string, json.Number, bool, nil, map[string]any or []any.
//
// encoding/json alone would take the last of two equal members, and into a struct the member exp from "EXP" and the
// member sub from "ſub"; it would make the same text of all bytes that are no UTF-8.
func decodeObject(raw []byte) (map[string]any, error) {
	if err := scan(raw); err != nil {
		return nil, err
	}
	if !json.Valid(raw) {
		return nil, errNotJSON
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // a float64 forgets digits of large numbers
	value, err := decodeValue(decoder)
	if err != nil {
		return nil, err
	}
	object, isObject := value.(map[string]any)
	if !isObject {
		return nil, errNotObject
	}
	return object, nil
}

// decodeValue reads the next value of JSON that is known to be valid and not too deep.
func decodeValue(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, errNotJSON
	}
	switch token {
	case json.Delim('{'):
		return decodeMembers(decoder)
	case json.Delim('['):
		return decodeElements(decoder)
	}
	return token, nil
}

func decodeMembers(decoder *json.Decoder) (map[string]any, error) {
	object := make(map[string]any)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, errNotJSON
		}
		name, isString := token.(string)
		if !isString {
			return nil, errNotJSON
		}
		// Compared as decoded, since "s\u0075b" is sub as well.
		if _, known := object[name]; known {
			return nil, errDuplicate
		}
		if object[name], err = decodeValue(decoder); err != nil {
			return nil, err
		}
	}
	return object, closeDelim(decoder)
}

func decodeElements(decoder *json.Decoder) ([]any, error) {
	var elements []any
	for decoder.More() {
		element, err := decodeValue(decoder)
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	return elements, closeDelim(decoder)
}

func closeDelim(decoder *json.Decoder) error {
	if _, err := decoder.Token(); err != nil {
		return errNotJSON
	}
	return nil
}

// scan refuses what encoding/json would let pass or put right in silence, before anything is parsed. Of text that is
// not JSON it may think what it likes: that is refused afterwards.
func scan(raw []byte) error {
	if !utf8.Valid(raw) {
		return errNotUTF8
	}
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			size := escapeSize(raw[i:])
			if size == 0 {
				return errHalfSurrogate
			}
			i += size - 1
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errTooDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// escapeSize returns how many bytes the escape at the start of raw takes up, both halves of a surrogate pair together.
// It returns 0 for half a pair alone: encoding/json reads every one of them as U+FFFD, so two users could become one.
func escapeSize(raw []byte) int {
	first := escapedRune(raw)
	switch {
	case first < 0:
		return 2 // \n, \" and the like
	case !utf16.IsSurrogate(first):
		return 6
	case utf16.DecodeRune(first, escapedRune(raw[6:])) == utf8.RuneError:
		return 0
	}
	return 12
}

// escapedRune reads \uXXXX at the start of raw; -1 if there is none.
func escapedRune(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	code, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(code)
}
