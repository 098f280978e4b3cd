package auth

import (
	"encoding/base64"
	"strings"
)

// MaxTokenBytes is the size of the largest token that is looked at. It is also about what a browser and the proxies on
// the way carry in a Sec-WebSocket-Protocol header.
const MaxTokenBytes = 8 << 10

// base64url is the one alphabet of a JWS, where a byte string has one spelling: Strict refuses stray bits at the end.
// That it skips line breaks even so is why parse looks at every byte first.
var base64url = base64.RawURLEncoding.Strict()

// parsed is a token taken apart, with a header that keeps the rules. Nothing of it is to be believed yet.
type parsed struct {
	alg       string
	kid       string // "" if the header has none
	signed    string // what the signature is over: header, dot, payload, as they came
	payload   []byte // decoded from base64, and not looked at
	signature []byte
}

// parse takes a token apart. It does not look into the payload.
func parse(token string) (parsed, error) {
	if len(token) > MaxTokenBytes {
		return parsed{}, invalid(ruleTooLong)
	}
	for i := range len(token) {
		if c := token[i]; c != '.' && !isBase64url(c) {
			return parsed{}, invalid(ruleAlphabet)
		}
	}
	segments := strings.SplitN(token, ".", 4)
	if len(segments) != 3 {
		return parsed{}, invalid(ruleSegments)
	}
	var raw [3][]byte
	for i, segment := range segments {
		decoded, err := base64url.DecodeString(segment)
		if err != nil {
			return parsed{}, invalid(ruleCanonical)
		}
		if len(decoded) == 0 {
			return parsed{}, invalid(ruleEmptySegment)
		}
		raw[i] = decoded
	}
	alg, kid, err := readHeader(raw[0])
	if err != nil {
		return parsed{}, err
	}
	return parsed{
		alg:       alg,
		kid:       kid,
		signed:    token[:len(segments[0])+1+len(segments[1])],
		payload:   raw[1],
		signature: raw[2],
	}, nil
}

// readHeader returns the header's alg and kid. Members that offer a key or the address of one (jwk, jku, x5c, x5u) are
// ignored like all others it does not know: the keys are configured.
func readHeader(raw []byte) (alg, kid string, err error) {
	header, err := decodeObject(raw)
	if err != nil {
		return "", "", invalid(malformed("header", err))
	}
	// Both change what the rest of the token means (RFC 7515 section 4.1.11, RFC 7797). We understand no extension, and
	// whoever does not understand a critical one must refuse.
	if _, present := header["crit"]; present {
		return "", "", invalid(ruleCrit)
	}
	if _, present := header["b64"]; present {
		return "", "", invalid(ruleB64)
	}
	// A key often signs other things too: logout tokens, requests, receipts. Their typ says what they are, and none of
	// them is to open a session (RFC 8725 section 3.11).
	if typ, present := header["typ"]; present {
		name, _ := typ.(string)
		if !strings.EqualFold(name, "JWT") && !strings.EqualFold(name, "at+jwt") {
			return "", "", invalid(ruleType)
		}
	}
	alg, isString := header["alg"].(string)
	if !isString {
		return "", "", invalid(ruleAlgMissing)
	}
	if value, present := header["kid"]; present {
		if kid, isString = value.(string); !isString {
			return "", "", invalid(ruleKeyID)
		}
	}
	return alg, kid, nil
}

func isBase64url(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
