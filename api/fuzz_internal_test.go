package api

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/reelay/reelay/hub"
)

// FuzzParseQuery checks that whatever is accepted keeps the rules and means what was written.
func FuzzParseQuery(f *testing.F) {
	for _, seed := range []string{
		"", "after=k3f9a2bq.42", "after=k3f9a2bq.42&snapshot=1&conflate=0&video=a&video=b", "after=", "after=%zz", "after=x.1;y",
		"token=x", "access_token=x&after=k.1", "snapshot=2", "video=", "video=%00", "video=%ff", "video=" + strings.Repeat("x", 1025),
		"after=k.9223372036854775808", "&&&", "=", "a=b&c", "video=%F0%9F%8E%AC", "after=k.1&after=k.1", "%61fter=k.1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, _, err := parseQuery(raw, 100)
		if err != nil {
			if p := problemOf(err); p.Status != 400 || p.Close != closePolicy {
				t.Fatalf("%q: got error %v, which a client is told as %d %d", raw, err, p.Status, p.Close)
			}
			return
		}
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatalf("%q: accepted, and it is no query: %v", raw, err)
		}
		if q.after == nil && values.Has("after") || q.after != nil && q.after.String() != values.Get("after") {
			t.Fatalf("%q: got cursor %v", raw, q.after)
		}
		if want := values.Get("snapshot") == "1" || !values.Has("snapshot") && !values.Has("after"); q.snapshot != want {
			t.Fatalf("%q: got snapshot %v", raw, q.snapshot)
		}
		if q.conflate != (values.Get("conflate") == "1") {
			t.Fatalf("%q: got conflate %v", raw, q.conflate)
		}
		if !slices.Equal(q.videos, values["video"]) || len(q.videos) > 100 {
			t.Fatalf("%q: got videos %q", raw, q.videos)
		}
		for _, id := range q.videos {
			checkVideo(t, id)
		}
	})
}

// FuzzParseClientFrame checks that whatever is accepted is one JSON object with the right members, and that its ref can
// be sent back.
func FuzzParseClientFrame(f *testing.F) {
	for _, seed := range []string{
		`{"type":"ping"}`, `{"type":"ping","ref":{"a":[1,2]}}`, `{"type":"auth","token":"a.b.c","ref":1}`,
		`{"type":"subscribe","videos":["a","b"]}`, `{"type":"unsubscribe","videos":["\u0000"]}`, `{"type":"subscribe","videos":[null]}`,
		`{}`, `[]`, `null`, ``, `{"type":"ping"} {}`, `{"type":"ping","type":"auth"}`, `{"Type":"ping"}`, `{"type":"ping",}`,
		`{"type":"ping","ref":"\ud800"}`, "{\"type\":\"ping\",\"ref\":\"\xff\"}", strings.Repeat("[", 10_000), `{"type":"ping","ref":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		frame, bad := parseClientFrame(message, 100)
		if len(frame.Ref) > refMost {
			t.Fatalf("%q: got a ref of %d bytes", message, len(frame.Ref))
		}
		if frame.Ref != nil && !json.Valid(encodeOwn("s", 1, "pong", nil, pongData{Ref: frame.Ref})) {
			t.Fatalf("%q: ref %q makes an answer that is not JSON", message, frame.Ref)
		}
		if bad != nil {
			if frame.Type != "" || frame.Token != "" || frame.Videos != nil {
				t.Fatalf("%q: refused, and returned as %+v", message, frame)
			}
			return
		}
		members := make(map[string]json.RawMessage)
		if err := json.Unmarshal(message, &members); err != nil || !utf8.Valid(message) {
			t.Fatalf("%q: accepted, and it is not JSON: %v", message, err)
		}
		delete(members, "type")
		delete(members, "ref")
		var want []string
		switch frame.Type {
		case "ping":
		case "auth":
			want = []string{"token"}
		case "subscribe", "unsubscribe":
			want = []string{"videos"}
			if len(frame.Videos) == 0 || len(frame.Videos) > 100 {
				t.Fatalf("%q: accepted with %d videos", message, len(frame.Videos))
			}
		default:
			t.Fatalf("%q: accepted as type %q", message, frame.Type)
		}
		for name := range members {
			if !slices.Contains(want, name) {
				t.Fatalf("%q: accepted with a member %q", message, name)
			}
		}
		for _, id := range frame.Videos {
			checkVideo(t, id)
		}
	})
}

func checkVideo(t *testing.T, id string) {
	t.Helper()
	if id == "" || len(id) > videoIDMost || !utf8.ValidString(id) || strings.Contains(id, "\x00") {
		t.Fatalf("accepted the video %q", id)
	}
}

// FuzzWire checks that it makes no difference in what pieces the bytes of a client come.
func FuzzWire(f *testing.F) {
	f.Add([]byte{0x81, 0x85, 1, 2, 3, 4, 'h', 'e', 'l', 'l', 'o'}, 3)
	f.Add([]byte{0x01, 0x80, 0, 0, 0, 0, 0x80, 0xfe, 0, 2, 0, 0, 0, 0, 'x', 'y', 0x88, 0x81, 0, 0, 0, 0, 3}, 1)
	f.Add([]byte{0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 'x', 0x81}, 2)
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 7)
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		state := func(pieces int) (incomplete, late bool, rest uint64, stub bool) {
			w := &wire{socket: new(socket)} // is not told: the timer is stopped
			defer w.stop()
			for some := range slices.Chunk(sent, max(1, pieces)) {
				w.watch(some)
			}
			return w.message || w.have > 0, w.timer != nil, w.payload, w.stub
		}
		incomplete, late, rest, stub := state(len(sent))
		incomplete2, late2, rest2, stub2 := state(piece)
		if incomplete != incomplete2 || late != late2 || rest != rest2 || stub != stub2 {
			t.Errorf("%x at once: %v %v %d %v; by %d: %v %v %d %v", sent, incomplete, late, rest, stub, piece, incomplete2, late2, rest2, stub2)
		}
		if late != incomplete {
			t.Errorf("%x: incomplete is %v, and the timer runs: %v", sent, incomplete, late)
		}
	})
}

// TestAppendString_AsEncodingJSON compares the short way with the long one, for texts of all bytes and of few.
func TestAppendString_AsEncodingJSON(t *testing.T) {
	t.Parallel()
	texts := []string{"", "video.updated", "vid_9", "é", "\xff", "\u2028", "a\x7fb"}
	for c := range 256 {
		texts = append(texts, "v"+string([]byte{byte(c)})+"w")
	}
	for _, text := range texts {
		want, err := json.Marshal(text)
		if got := appendString([]byte("x"), text); err != nil || string(got) != "x"+string(want) {
			t.Errorf("%q became %s, want %s (%v)", text, got[1:], want, err)
		}
	}
}

func TestProblemOf_Unknown(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("x"), &hub.ErrReset{Reason: hub.ReasonTooOld}} {
		if got := problemOf(err); got != errInternal {
			t.Errorf("%v is told as %s, want internal", err, got.Code)
		}
	}
}
