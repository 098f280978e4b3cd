package api_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reelay/reelay/api"
)

// The frames of RFC 6455, sections 5 to 7 and 10, in groups of cases. Each is sent at once, byte by byte, and under
// another mask; what the server says to it has to be the same, and others on the server notice nothing.

// conversation is one case: what a client sends, and all that the server says to it.
type conversation struct {
	sent []byte
	// said ends with a close frame, and then the connection ends; or it goes on. What begins with a question mark may be
	// missing: an answer to what came right before the end can be overtaken by it.
	said []string
}

func says(sent []byte, said ...string) conversation { return conversation{sent, said} }

// broken is how the server answers what breaks the protocol.
const broken = "close 1002 protocol_error"

// converse runs cases on servers of their own.
func converse(t *testing.T, cases map[string]conversation, prepare ...func(*world)) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := remask(c.sent, [4]byte{0x5a, 0xff, 0x01, 0x80})
			half := max(1, (len(other)+1)/2)
			for how, pieces := range map[string][][]byte{
				"at once":                  {c.sent},
				"byte by byte":             slices.Collect(slices.Chunk(c.sent, max(1, len(c.sent)/20_000))),
				"masked, in two halves":    slices.Collect(slices.Chunk(other, half)),
				"masked, in uneven pieces": slices.Collect(slices.Chunk(other, max(997, len(other)/100))),
			} {
				t.Run(how, func(t *testing.T) {
					t.Parallel()
					inWorld(t, func(w *world) { c.run(w, pieces) }, prepare...)
				})
			}
		})
	}
}

func (c conversation) run(w *world, pieces [][]byte) {
	w.Helper()
	other, client := w.live("bob"), w.dialRaw("alice")
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for _, piece := range pieces {
			client.write(piece)
		}
	})
	client.expect(c.said...)
	if len(c.said) > 0 && strings.HasPrefix(c.said[len(c.said)-1], "close") {
		client.expectEnd(3 * time.Second)
	} else {
		pass(20 * time.Second) // no timer of a message that is through runs on
		client.write(raw(final|text, masked, []byte(`{"type":"ping","ref":"the end"}`)))
		client.expect("reelay.pong the end")
		client.write(raw(final|closing, masked, []byte{3, 232}))
		client.expect("close 1000")
		client.expectEnd(time.Second)
	}
	pass(0)
	if got := w.metric("reelay_connections"); got != "1" {
		w.Errorf("%s connections are left, want the other client's", got)
	}
	other.silent()
	other.send(string(aPing))
	other.next("reelay.pong")
}

// padded is a ping of ours in a message of a size.
func padded(size int) []byte {
	return append(bytes.Clone(aPing), bytes.Repeat([]byte(" "), size-len(aPing))...)
}

// withRef is a ping of ours whose answer holds a text.
func withRef(ref string) []byte { return []byte(`{"type":"ping","ref":"` + ref + `"}`) }

// fragments cuts a message into frames of a size.
func fragments(message []byte, size int) []byte {
	var frames []byte
	pieces := slices.Collect(slices.Chunk(message, size))
	for i, piece := range pieces {
		first := byte(continuation)
		if i == 0 {
			first = text
		}
		if i == len(pieces)-1 {
			first |= final
		}
		frames = append(frames, raw(first, masked, piece)...)
	}
	return frames
}

func TestConformance_Lengths(t *testing.T) {
	t.Parallel()
	cases := map[string]conversation{
		"nothing in a text frame": says(raw(final|text, masked, nil), "reelay.error invalid_frame"),
		// A sender must use the shortest form (5.2). Who does not is understood all the same.
		"126 where 7 bits do":   says(join([]byte{final | text, masked | 126, 0, byte(len(aPing)), 0, 0, 0, 0}, aPing), "reelay.pong"),
		"127 where 7 bits do":   says(join([]byte{final | text, masked | 127, 0, 0, 0, 0, 0, 0, 0, byte(len(aPing)), 0, 0, 0, 0}, aPing), "reelay.pong"),
		"127 where 16 bits do":  says(join([]byte{final | text, masked | 127, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 0}, padded(200)), "reelay.pong"),
		"the top bit of 64 set": says(head(final|text, masked, 1<<63), "close 1009 frame_too_big"),
		"all of 64 bits set":    says(head(final|text, masked, 1<<64-1), "close 1009 frame_too_big"),
	}
	for _, size := range []int{16, 125, 126, 127, 128, 255, 256, 12<<10 - 1, 12 << 10} {
		cases[fmt.Sprint(size)] = says(raw(final|text, masked, padded(size)), "reelay.pong")
	}
	for _, size := range []int{12<<10 + 1, 65535, 65536} {
		cases[fmt.Sprint(size, ", which is over the limit")] = says(raw(final|text, masked, padded(size)), "close 1009 frame_too_big")
	}
	converse(t, cases)
}

func TestConformance_LengthsWhereTheLimitIsLarger(t *testing.T) {
	t.Parallel()
	cases := make(map[string]conversation)
	for _, size := range []int{65535, 65536, 1 << 17} {
		cases[fmt.Sprint(size)] = says(raw(final|text, masked, padded(size)), "reelay.pong")
	}
	cases["131073"] = says(raw(final|text, masked, padded(1<<17+1)), "close 1009 frame_too_big")
	converse(t, cases, limited(func(l *api.Limits) { l.FrameSize = 1 << 17 }))
}

func TestConformance_PingsAndPongs(t *testing.T) {
	t.Parallel()
	ten, answers := []byte(nil), []string(nil)
	for i := range 10 {
		ten = append(ten, raw(final|ping, masked, fmt.Append(nil, "ping ", i))...)
		answers = append(answers, fmt.Sprintf("pong %q", fmt.Sprint("ping ", i)))
	}
	cases := map[string]conversation{
		"a ping of no text":            says(raw(final|ping, masked, []byte("\x00\xff\xfe\n")), `pong "\x00\xff\xfe\n"`),
		"a ping of 126 bytes":          says(raw(final|ping, masked, make([]byte, 126)), broken),
		"a ping with a length of 16":   says(join([]byte{final | ping, masked | 126, 0, 3, 0, 0, 0, 0}, []byte("abc")), broken),
		"a pong of 126 bytes":          says(raw(final|pong, masked, make([]byte, 126)), broken),
		"a ping in a fragment":         says(raw(ping, masked, []byte("x")), broken),
		"a pong in a fragment":         says(raw(pong, masked, []byte("x")), broken),
		"a pong that nobody asked for": says(raw(final|pong, masked, []byte("unasked"))),
		"an empty one":                 says(raw(final|pong, masked, nil)),
		"a pong, and then a ping":      says(join(raw(final|pong, masked, []byte("x")), raw(final|ping, masked, []byte("y"))), `pong "y"`),
		"ten pings, in order":          says(ten, answers...),
	}
	for _, size := range []int{0, 1, 124, 125} {
		payload := bytes.Repeat([]byte("p"), size)
		cases[fmt.Sprint("a ping of ", size, " bytes")] = says(raw(final|ping, masked, payload), fmt.Sprintf("pong %q", payload))
	}
	converse(t, cases)
}

func TestConformance_ReservedBitsAndOpcodes(t *testing.T) {
	t.Parallel()
	cases := make(map[string]conversation)
	for bits := byte(1); bits < 8; bits++ {
		for name, op := range map[string]byte{"text": text, "binary": bin, "ping": ping, "pong": pong, "close": closing} {
			cases[fmt.Sprintf("bits %03b of a %s", bits, name)] = says(raw(final|bits<<4|op, masked, nil), broken)
		}
	}
	cases["a bit in a continuation"] = says(join(raw(text, masked, aPing[:5]), raw(final|0x20|continuation, masked, aPing[5:])), broken)
	cases["a bit after what is good"] = says(join(raw(final|text, masked, aPing), raw(final|reserved1|text, masked, aPing)), "?reelay.pong", broken)
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		cases[fmt.Sprint("opcode ", op)] = says(raw(final|op, masked, nil), broken)
		cases[fmt.Sprint("opcode ", op, " with a payload, after what is good")] = says(
			join(raw(final|text, masked, aPing), raw(final|op, masked, []byte("x")), raw(final|ping, masked, nil)), "?reelay.pong", broken)
	}
	converse(t, cases)
}

func TestConformance_Masks(t *testing.T) {
	t.Parallel()
	converse(t, map[string]conversation{
		"a text without":         says(raw(final|text, unmasked, aPing), broken),
		"an empty one without":   says(raw(final|text, unmasked, nil), broken),
		"a ping without":         says(raw(final|ping, unmasked, nil), broken),
		"a close without":        says(raw(final|closing, unmasked, []byte{3, 232}), broken),
		"a continuation without": says(join(raw(text, masked, aPing[:5]), raw(final|continuation, unmasked, aPing[5:])), broken),
		"of zeros":               says(raw(final|text, masked, aPing), "reelay.pong"),
	})
}

func TestConformance_Fragments(t *testing.T) {
	t.Parallel()
	first, last := raw(text, masked, aPing[:7]), raw(final|continuation, masked, aPing[7:])
	nothing, aPingFrame := raw(continuation, masked, nil), raw(final|ping, masked, []byte("within"))
	converse(t, map[string]conversation{
		"two":                           says(join(first, last), "reelay.pong"),
		"of one byte each":              says(fragments(aPing, 1), "reelay.pong"),
		"of 64 bytes, up to the limit":  says(fragments(padded(12<<10), 64), "reelay.pong"),
		"of 64 bytes, over the limit":   says(fragments(padded(12<<10+1), 64), "close 1009 frame_too_big"),
		"1024 of them":                  says(join(first, bytes.Repeat(nothing, 1022), last), "reelay.pong"),
		"1025 of them":                  says(join(first, bytes.Repeat(nothing, 1023), last), "close 1013 rate_limited"),
		"without end":                   says(join(first, bytes.Repeat(nothing, 100_000)), "close 1013 rate_limited"),
		"all empty":                     says(join(raw(text, masked, nil), nothing, raw(final|continuation, masked, nil)), "reelay.error invalid_frame"),
		"empty first":                   says(join(raw(text, masked, nil), raw(final|continuation, masked, aPing)), "reelay.pong"),
		"empty in the middle":           says(join(first, nothing, last), "reelay.pong"),
		"empty last":                    says(join(raw(text, masked, aPing), raw(final|continuation, masked, nil)), "reelay.pong"),
		"a ping between":                says(join(first, aPingFrame, last), `pong "within"`, "reelay.pong"),
		"pings and pongs between":       says(join(first, aPingFrame, raw(final|pong, masked, nil), nothing, aPingFrame, last), `pong "within"`, `pong "within"`, "reelay.pong"),
		"a close between":               says(join(first, raw(final|closing, masked, []byte{3, 232}), last), "close 1000"),
		"a continuation of nothing":     says(raw(final|continuation, masked, aPing), broken),
		"a first one of nothing":        says(raw(continuation, masked, aPing), broken),
		"a continuation of what is all": says(join(raw(final|text, masked, aPing), last), "?reelay.pong", broken),
		"a continuation after the last": says(join(first, last, last), "?reelay.pong", broken),
		"a text before the last":        says(join(first, raw(final|text, masked, aPing)), broken),
		"a first text before the last":  says(join(first, first), broken),
		"a binary before the last":      says(join(first, raw(final|bin, masked, aPing)), broken),
		"two messages, one after one":   says(join(first, last, first, last), "reelay.pong", "reelay.pong"),
		"a binary in two":               says(join(raw(bin, masked, aPing[:7]), last), "close 1003 binary_frame"),
		"a first one, and no more":      says(first, "close 3008 frame_timeout"),
	})
}

func TestConformance_Binary(t *testing.T) {
	t.Parallel()
	converse(t, map[string]conversation{
		"what would be good as text": says(raw(final|bin, masked, aPing), "close 1003 binary_frame"),
		"nothing":                    says(raw(final|bin, masked, nil), "close 1003 binary_frame"),
		"no UTF-8":                   says(raw(final|bin, masked, []byte{0xff}), "close 1003 binary_frame"),
	})
}
