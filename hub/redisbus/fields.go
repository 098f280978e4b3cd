package redisbus

import (
	"encoding/binary"
	"math"
	"time"
)

// fields reads the fields of a body in order. After the first that is wrong it returns zeros; close says what was.
type fields struct {
	rest []byte
	bad  rejection
}

// open checks what stands before a body's fields.
func open(body []byte, kind byte) (fields, error) {
	switch {
	case len(body) > maxBody:
		return fields{}, rejectedSize
	case len(body) == 0 || body[0] != kind:
		return fields{}, rejectedKind
	default:
		return fields{rest: body[1:]}, nil
	}
}

func (f *fields) close() error {
	if f.bad == "" && len(f.rest) > 0 {
		f.bad = rejectedLayout
	}
	if f.bad != "" {
		return f.bad
	}
	return nil
}

func (f *fields) fail(why rejection) {
	if f.bad == "" {
		f.bad = why
	}
	f.rest = nil
}

// take moves on past a varint of n bytes, as encoding/binary returns n.
func (f *fields) take(n int) bool {
	// A last byte of zero adds nothing: it is a second spelling of the same number.
	if n <= 0 || n > 1 && f.rest[n-1] == 0 {
		f.fail(rejectedLayout)
		return false
	}
	f.rest = f.rest[n:]
	return true
}

func (f *fields) number() int64 {
	value, n := binary.Uvarint(f.rest)
	if !f.take(n) {
		return 0
	}
	if value > math.MaxInt64 {
		f.fail(rejectedNumber)
		return 0
	}
	return int64(value)
}

// text returns a part of the body, with no room behind it for an append to spill into.
func (f *fields) text() []byte {
	length := f.number()
	if length > int64(len(f.rest)) {
		f.fail(rejectedLayout)
		return nil
	}
	text := f.rest[:length:length]
	f.rest = f.rest[length:]
	return text
}

func (f *fields) time() time.Time {
	seconds, n := binary.Varint(f.rest)
	if !f.take(n) {
		return time.Time{}
	}
	nanoseconds := f.number()
	if nanoseconds >= int64(time.Second) {
		f.fail(rejectedTime)
		return time.Time{}
	}
	return time.Unix(seconds, nanoseconds).UTC()
}
