package api_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// TestConformance_UTF8 is about the text in text frames. Characters may be cut anywhere, by fragments and by whatever
// carries them; what is judged is the whole message (8.1).
func TestConformance_UTF8(t *testing.T) {
	t.Parallel()
	cases := make(map[string]conversation)
	for name, ref := range map[string]string{
		"two bytes":              "κόσμε",
		"three bytes":            "€ — ᚠ",
		"four bytes":             "𐍈 🎬",
		"the smallest of each":   "\u0080 \u0800 \U00010000",
		"the largest of each":    "\u007f \u07ff \uffff \U0010ffff",
		"beside surrogates":      "\ud7ff \ue000",
		"characters of no kind":  "\ufffe \ufdd0 \U0001fffe",
		"a byte order mark":      "\ufeff",
		"what stands for broken": "\ufffd",
	} {
		message, pong := withRef(ref), "reelay.pong "+ref
		cases[name] = says(raw(final|text, masked, message), pong)
		cases[name+", a byte a fragment"] = says(fragments(message, 1), pong)
	}
	cases["NUL, which is text and no JSON"] = says(raw(final|text, masked, []byte{0}), "reelay.error invalid_frame")
	for name, bad := range map[string]string{
		"a stray continuation":         "\x80",
		"two of them":                  "\xbf\xbf",
		"a start alone":                "\xc3",
		"three bytes without the last": "\xe2\x82",
		"four bytes without the last":  "\xf0\x9f\x8e",
		"a start, and then no more":    "\xe2\x82\x20",
		"an impossible byte":           "\xfe",
		"another":                      "\xff",
		"overlong, two bytes":          "\xc0\xaf",
		"overlong, three bytes":        "\xe0\x80\xaf",
		"overlong, four bytes":         "\xf0\x80\x80\xaf",
		"overlong NUL":                 "\xc0\x80",
		"the largest overlong":         "\xf0\x8f\xbf\xbf",
		"a high surrogate":             "\xed\xa0\x80",
		"a low surrogate":              "\xed\xbf\xbf",
		"a pair of surrogates":         "\xed\xa0\x80\xed\xb0\x80",
		"beyond Unicode":               "\xf4\x90\x80\x80",
		"five bytes":                   "\xf8\x88\x80\x80\x80",
		"six bytes":                    "\xfc\x84\x80\x80\x80\x80",
		"good before and after":        "κόσμε\xed\xa0\x80edited",
	} {
		for where, message := range map[string][]byte{"alone": []byte(bad), "within a frame that is good": withRef(bad)} {
			cases[name+", "+where] = says(raw(final|text, masked, message), "close 1007 invalid_utf8")
			cases[name+", "+where+", a byte a fragment"] = says(fragments(message, 1), "close 1007 invalid_utf8")
		}
	}
	// Each fragment by itself is no UTF-8, and both together are; or the other way round.
	cases["a character over two fragments"] = says(
		join(raw(text, masked, []byte("{\"type\":\"ping\",\"ref\":\"\xf0\x9f")), raw(final|ping, masked, nil), raw(final|continuation, masked, []byte("\x8e\xac\"}"))),
		`pong ""`, "reelay.pong 🎬")
	cases["a message that ends in half a character"] = says(join(raw(text, masked, []byte("\xe2\x82")), raw(final|continuation, masked, nil)), "close 1007 invalid_utf8")
	converse(t, cases)
}

// closeFrame is a close frame of a client.
func closeFrame(code uint16, reason string) []byte {
	return raw(final|closing, masked, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

func TestConformance_Close(t *testing.T) {
	t.Parallel()
	longest := string(bytes.Repeat([]byte("r"), 123))
	cases := map[string]conversation{
		"no payload":                     says(raw(final|closing, masked, nil), "close"),
		"half a code":                    says(raw(final|closing, masked, []byte{3}), broken),
		"no reason":                      says(closeFrame(1000, ""), "close 1000"),
		"a reason":                       says(closeFrame(1000, "until later"), "close 1000"),
		"a reason of four-byte letters":  says(closeFrame(1000, "🎬🎬"), "close 1000"),
		"a reason of 123 bytes":          says(closeFrame(1000, longest), "close 1000"),
		"a reason of 124 bytes":          says(closeFrame(1000, longest+"r"), broken),
		"a reason that is no UTF-8":      says(closeFrame(1000, "\xff"), broken),
		"a reason with a surrogate":      says(closeFrame(1000, "κόσμε\xed\xa0\x80edited"), broken),
		"a reason cut within a letter":   says(closeFrame(1000, "\xe2\x82"), broken),
		"in a fragment":                  says(raw(closing, masked, []byte{3, 232}), broken),
		"a length of 16 bits":            says(join([]byte{final | closing, masked | 126, 0, 2, 0, 0, 0, 0}, []byte{3, 232}), broken),
		"twice":                          says(join(closeFrame(1000, ""), closeFrame(1000, "")), "close 1000"),
		"then half a code":               says(join(closeFrame(1000, ""), raw(final|closing, masked, []byte{3})), "close 1000"),
		"then a ping":                    says(join(closeFrame(1001, ""), raw(final|ping, masked, nil)), "close 1001"),
		"then a message":                 says(join(closeFrame(1000, ""), raw(final|text, masked, aPing)), "close 1000"),
		"then what breaks the protocol":  says(join(closeFrame(1000, ""), raw(final|3, masked, nil)), "close 1000"),
		"then much of anything":          says(join(closeFrame(1000, ""), make([]byte, 100<<10)), "close 1000"),
		"after a message":                says(join(raw(final|text, masked, aPing), closeFrame(1000, "")), "?reelay.pong", "close 1000"),
		"after a ping":                   says(join(raw(final|ping, masked, nil), closeFrame(1000, "")), `pong ""`, "close 1000"),
		"after what breaks the protocol": says(join(raw(final|3, masked, nil), closeFrame(1000, "")), broken),
	}
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999} {
		cases[fmt.Sprint(code)] = says(closeFrame(code, ""), fmt.Sprint("close ", code))
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65535} {
		cases[fmt.Sprint(code, ", which is none")] = says(closeFrame(code, ""), broken)
		cases[fmt.Sprint(code, ", which is none, with a reason")] = says(closeFrame(code, "why not"), broken)
	}
	converse(t, cases)
}
