package redisbus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/reelay/reelay/hub"
)

// A message on Redis is a version byte, a body (see codec.go), and a tag, which says that it is genuine:
//
//	version  body  tag
//
// The tag is the first 16 bytes of the HMAC-SHA-256 (RFC 2104, truncated as its section 5 allows) over the length of the
// channel's name as an unsigned varint, that name, and all of the message before the tag. So a message is worth nothing
// on another channel, and nothing of it is believed before that is known. Only the version byte is looked at first, since
// it says where to look for a tag.
//
// An unknown version is refused, marks included: a replica that is older than the leader therefore hears no marks,
// finds the bus silent, and reads the log until it is replaced too. So does one that is newer than the leader.
const (
	version  = 2
	tagSize  = 16
	envelope = 1 + tagSize // bytes of a message around its body
)

// maxMessage bounds a message, in bytes. Redis cuts a subscriber off at 32 MB of unsent messages by default, so a few of
// these in a row still pass.
const maxMessage = 8 << 20

// signer signs messages and checks signatures. It is for one goroutine at a time, since it keeps what it works with: so
// a message costs no allocation.
type signer struct {
	mac  hash.Hash
	name []byte
	sum  []byte
}

func newSigner(key []byte) *signer {
	return &signer{mac: hmac.New(sha256.New, key), sum: make([]byte, 0, sha256.Size)}
}

// tag returns the tag of what stands before it in a message. It is overwritten by the next call.
func (s *signer) tag(channel string, message []byte) []byte {
	s.name = append(binary.AppendUvarint(s.name[:0], uint64(len(channel))), channel...)
	s.mac.Reset()
	_, _ = s.mac.Write(s.name) // a hash never returns an error
	_, _ = s.mac.Write(message)
	s.sum = s.mac.Sum(s.sum[:0])
	return s.sum[:tagSize]
}

// appendEvent appends the message of an event, for a channel, to buf. After an error buf is as it was.
func (s *signer) appendEvent(buf []byte, channel, log string, epoch hub.Epoch, event *hub.Event) ([]byte, error) {
	start := len(buf)
	buf, err := appendEvent(append(buf, version), log, epoch, event)
	if err != nil {
		return buf[:start], err
	}
	return append(buf, s.tag(channel, buf[start:])...), nil
}

// appendMark appends the message of a mark, for a channel, to buf. After an error buf is as it was.
func (s *signer) appendMark(buf []byte, channel string, mark hub.Mark, serial int64) ([]byte, error) {
	start := len(buf)
	buf, err := appendMark(append(buf, version), mark, serial)
	if err != nil {
		return buf[:start], err
	}
	return append(buf, s.tag(channel, buf[start:])...), nil
}

// open returns the body of a message that came on a channel, if whoever sent it there has the key. The body is part of
// message.
func (s *signer) open(channel string, message []byte) (body []byte, err error) {
	switch {
	case len(message) > maxMessage:
		return nil, rejectedSize
	case len(message) == 0 || message[0] != version:
		return nil, rejectedVersion
	case len(message) < envelope:
		return nil, rejectedSignature
	}
	end := len(message) - tagSize
	if !hmac.Equal(s.tag(channel, message[:end]), message[end:]) {
		return nil, rejectedSignature
	}
	return message[1:end:end], nil
}
