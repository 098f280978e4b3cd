package redisbus

import (
	"encoding/base64"
	"strings"

	"github.com/reelay/reelay/hub"
)

// hexDigits are the 16 hash tags. Sixteen keep a cluster's load spread, and a replica of it would need 16 connections
// at most.
const hexDigits = "0123456789abcdef"

// names makes the channel names of one prefix.
//
//	<prefix>:{h}:o:<owner in base64url without padding>   the events of one owner
//	<prefix>:{0}:control                                  the marks, for everybody
//
// What stands in braces is all that Redis Cluster hashes, so that the same names work with sharded pub/sub. Base64
// makes any bytes of an owner safe: no id can name another owner's channel, or the control channel.
type names struct {
	prefix  string
	control string
}

func newNames(prefix string) names {
	return names{prefix: prefix, control: prefix + ":{0}:control"}
}

// validPrefix says whether names of this prefix hash as they should: a brace in it would move the hash tag. The rest
// is refused because nobody means it.
func validPrefix(prefix string) bool {
	if prefix == "" || len(prefix) > 64 {
		return false
	}
	for _, c := range []byte(prefix) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", rune(c)) {
			return false
		}
	}
	return true
}

// of returns the channel of an owner.
func (n names) of(owner hub.Owner) string {
	return string(n.append(nil, owner))
}

// append appends the channel of an owner to buf.
func (n names) append(buf []byte, owner hub.Owner) []byte {
	buf = append(buf, n.prefix...)
	buf = append(buf, ':', '{', hexDigits[hashTag(owner)], '}', ':', 'o', ':')
	return base64.RawURLEncoding.AppendEncode(buf, []byte(owner))
}

// owner returns whose channel it is. It accepts what of returns, and nothing else.
func (n names) owner(channel string) (hub.Owner, bool) {
	rest, found := strings.CutPrefix(channel, n.prefix)
	const head = len(":{h}:o:")
	if !found || len(rest) < head {
		return "", false
	}
	decoded, err := base64.RawURLEncoding.DecodeString(rest[head:])
	owner := hub.Owner(decoded)
	return owner, err == nil && n.of(owner) == channel
}

// hashTag returns the number of an owner's hash tag: 32-bit FNV-1a, folded to four bits. Its lowest bits alone would
// depend on the lowest bits of the owner's bytes alone.
func hashTag(owner hub.Owner) uint32 {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for i := range len(owner) {
		h = (h ^ uint32(owner[i])) * prime
	}
	h ^= h >> 16
	h ^= h >> 8
	h ^= h >> 4
	return h % uint32(len(hexDigits))
}
