// These tests are inside the package: the codec is not for others, and it deserves better than to be tested through
// a server.
package redisbus

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/hub"
)

func sample() *hub.Event {
	return &hub.Event{
		Position: 300, Owner: "alice", Sequence: 42, OutboxID: 70000, Type: "video.updated", Subject: "vid_9",
		Data: json.RawMessage(`{"processing_status":"ready","previous":{"processing_status":"processing"}}`),
		Time: time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC),
	}
}

// genEvent draws any event that may be published.
func genEvent(t *rapid.T) *hub.Event {
	text := rapid.StringMatching(`[a-zA-Z0-9 :{}*\r\n]{0,40}|\p{L}{0,10}`)
	e := &hub.Event{
		Position: hub.Position(rapid.Int64Range(1, math.MaxInt64).Draw(t, "position")),
		Owner:    hub.Owner(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "owner")),
		Sequence: hub.Sequence(rapid.Int64Range(1, math.MaxInt64).Draw(t, "sequence")),
		OutboxID: rapid.Int64Range(0, math.MaxInt64).Draw(t, "outbox id"),
		Type:     "t" + text.Draw(t, "type"),
		Subject:  text.Draw(t, "subject"),
		Time: time.Unix(rapid.Int64Range(minSeconds, maxSeconds).Draw(t, "seconds"),
			rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC(),
	}
	if rapid.Bool().Draw(t, "has data") {
		data, err := json.Marshal(rapid.MapOf(text, rapid.Float64Range(-1e9, 1e9)).Draw(t, "data"))
		if err != nil {
			t.Fatal(err)
		}
		e.Data = data
	}
	return e
}

func TestCodec_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := rapid.StringMatching(`[a-z0-9]{1,32}`).Draw(t, "log")
		epoch := hub.Epoch(rapid.Int64Range(0, math.MaxInt64).Draw(t, "epoch"))
		event := genEvent(t)
		prefix := []byte("what was in the buffer")
		message, err := appendEvent(prefix, log, epoch, event)
		if err != nil || !bytes.HasPrefix(message, prefix) {
			t.Fatalf("appendEvent: %q, %v", message, err)
		}
		var d decoder
		gotLog, gotEpoch, got, err := d.event(message[len(prefix):])
		if err != nil || gotLog != log || gotEpoch != epoch || !reflect.DeepEqual(got, event) {
			t.Fatalf("decoded %q %d %+v, %v; want %q %d %+v", gotLog, gotEpoch, got, err, log, epoch, event)
		}
		from := rapid.Int64Range(0, math.MaxInt64).Draw(t, "from")
		mark := hub.Mark{
			Log: log, Epoch: epoch, From: hub.Position(from),
			Head: hub.Position(rapid.Int64Range(from, math.MaxInt64).Draw(t, "head")),
		}
		serial := rapid.Int64Range(1, math.MaxInt64).Draw(t, "serial")
		if message, err = appendMark(nil, mark, serial); err != nil {
			t.Fatal(err)
		}
		if got, gotSerial, err := d.mark(message); err != nil || got != mark || gotSerial != serial {
			t.Fatalf("decoded %+v %d, %v; want %+v %d", got, gotSerial, err, mark, serial)
		}
	})
}

// Every cut and every changed byte gives an error or another well-formed message, never the same one.
func TestCodec_OneSpelling(t *testing.T) {
	t.Parallel()
	message, err := appendEvent(nil, "k3f9a2bq", 7, sample())
	if err != nil {
		t.Fatal(err)
	}
	var d decoder
	for i := range message {
		if _, _, _, err := d.event(message[:i]); err == nil {
			t.Errorf("the first %d bytes of %d were accepted", i, len(message))
		}
		for flip := 1; flip < 256; flip++ {
			changed := bytes.Clone(message)
			changed[i] ^= byte(flip)
			log, epoch, event, err := d.event(changed)
			if err == nil && log == "k3f9a2bq" && epoch == 7 && reflect.DeepEqual(event, sample()) {
				t.Errorf("byte %d may be %#x or %#x", i, message[i], changed[i])
			}
		}
	}
}

// The two sides agree: what is refused when it arrives is refused when it is sent.
func TestCodec_RefusesToSend(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[rejection]func(*hub.Event) (log string, epoch hub.Epoch){
		rejectedLog:    func(*hub.Event) (string, hub.Epoch) { return "K.1", 7 },
		rejectedNumber: func(*hub.Event) (string, hub.Epoch) { return "l", -1 },
		rejectedType:   func(e *hub.Event) (string, hub.Epoch) { e.Type = "reelay.ready"; return "l", 7 },
		rejectedText:   func(e *hub.Event) (string, hub.Epoch) { e.Subject = "\xff"; return "l", 7 },
		rejectedTime:   func(e *hub.Event) (string, hub.Epoch) { e.Time = time.Unix(maxSeconds+1, 0); return "l", 7 },
		rejectedData:   func(e *hub.Event) (string, hub.Epoch) { e.Data = json.RawMessage{}; return "l", 7 },
		rejectedSize: func(e *hub.Event) (string, hub.Epoch) {
			e.Subject = strings.Repeat("x", maxMessage)
			return "l", 7
		},
	} {
		event := sample()
		log, epoch := spoil(event)
		if buf, err := appendEvent([]byte("kept"), log, epoch, event); !errors.Is(err, want) || string(buf) != "kept" {
			t.Errorf("appendEvent returned %q and %v, want the buffer as it was and %v", buf, err, want)
		}
	}
	for _, mark := range []hub.Mark{
		{Log: "", Head: 1}, {Log: "l", Epoch: -1}, {Log: "l", From: -1}, {Log: "l", From: 2, Head: 1},
	} {
		if _, err := appendMark(nil, mark, 1); err == nil {
			t.Errorf("appendMark accepted %+v", mark)
		}
	}
	if _, err := appendMark(nil, hub.Mark{Log: "l"}, 0); err == nil {
		t.Error("appendMark accepted the serial 0")
	}
	if _, _, _, err := new(decoder).event(make([]byte, maxBody+1)); !errors.Is(err, rejectedSize) {
		t.Errorf("an oversized message: %v", err)
	}
}

// Decoded data is not overwritten by what is appended to it, and an event keeps none of another's bytes.
func TestCodec_DataHasNoRoomBehindIt(t *testing.T) {
	t.Parallel()
	message, err := appendEvent(nil, "l", 1, sample())
	if err != nil {
		t.Fatal(err)
	}
	_, _, event, err := new(decoder).event(append(message, "tail"...)[:len(message)])
	if err != nil || cap(event.Data) != len(event.Data) {
		t.Errorf("the data has room for %d bytes more (%v)", cap(event.Data)-len(event.Data), err)
	}
}

// Whatever arrives, decoding does not panic, and what it accepts is exactly what would be sent.
func FuzzDecode(f *testing.F) {
	event, _ := appendEvent(nil, "k3f9a2bq", 7, sample())
	mark, _ := appendMark(nil, hub.Mark{Log: "k3f9a2bq", Epoch: 7, From: 299, Head: 300}, 1)
	for _, seed := range [][]byte{event, mark, {}, {1}, {'e'}, {'m', 0x80}, []byte(`{"a":1}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		var d decoder
		if log, epoch, event, err := d.event(message); err == nil {
			again, err := appendEvent(nil, log, epoch, event)
			if err != nil || !bytes.Equal(again, message) {
				t.Errorf("%q was accepted and is sent as %q, %v", message, again, err)
			}
			if strings.HasPrefix(event.Type, "reelay.") || event.Data != nil && !json.Valid(event.Data) ||
				!utf8.Valid(event.Data) || event.Position < 1 || event.Sequence < 1 || epoch < 0 || event.OutboxID < 0 {
				t.Errorf("%q was accepted as %+v", message, event)
			}
			if _, err := json.Marshal(event.Time); err != nil {
				t.Errorf("a time was accepted that JSON cannot say: %v", err)
			}
		}
		if mark, serial, err := d.mark(message); err == nil {
			again, err := appendMark(nil, mark, serial)
			if err != nil || !bytes.Equal(again, message) || mark.From < 0 || mark.Head < mark.From || mark.Epoch < 0 {
				t.Errorf("%q was accepted as %+v and is sent as %q, %v", message, mark, again, err)
			}
		}
	})
}
