package hub_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/reelay/reelay/hub"
)

func TestParseCursor(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("z", 32)
	for _, test := range []struct {
		text string
		want hub.Cursor // the zero cursor where the text is malformed
	}{
		{"c7.42", hub.Cursor{Log: "c7", Sequence: 42}},
		{"0.0", hub.Cursor{Log: "0"}},
		{"a.9223372036854775807", hub.Cursor{Log: "a", Sequence: math.MaxInt64}},
		{longest + ".9223372036854775807", hub.Cursor{Log: longest, Sequence: math.MaxInt64}},

		{text: ""},
		{text: "."},
		{text: "c7"},
		{text: "c7."},
		{text: ".42"},
		{text: "c7.42."},
		{text: "c7..42"},
		{text: "c7.4.2"},
		{text: "c7.-1"},
		{text: "c7.-0"},
		{text: "c7.+1"},
		{text: "c7.042"},
		{text: "c7.00"},
		{text: "c7.4_2"},
		{text: "c7.0x2a"},
		{text: "c7.1e3"},
		{text: "c7.٤٢"},
		{text: " c7.42"},
		{text: "c7.42 "},
		{text: "c7 .42"},
		{text: "c7.42\r\n"},
		{text: "c7.4\x002"},
		{text: "C7.42"},
		{text: "c-7.42"},
		{text: "ç7.42"},
		{text: "\xff.42"},
		{text: "a.9223372036854775808"},
		{text: "a.18446744073709551616"},
		{text: longest + "z.1"},
		{text: longest + ".09223372036854775807"},
		{text: strings.Repeat("a", 1<<20)},
		{text: "a." + strings.Repeat("0", 1<<20)},
	} {
		got, err := hub.ParseCursor(test.text)
		if got != test.want {
			t.Errorf("cursor %.60q is %+v, want %+v", test.text, got, test.want)
		}
		if malformed := test.want == (hub.Cursor{}); errors.Is(err, hub.ErrMalformedCursor) != malformed || (err == nil) == malformed {
			t.Errorf("cursor %.60q has error %v, want malformed: %t", test.text, err, malformed)
		}
		if err != nil && len(err.Error()) > 100 {
			t.Errorf("the error about a cursor of %d bytes has %d", len(test.text), len(err.Error()))
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, seed := range []string{"c7.42", "0.0", "a.9223372036854775807", "", ".", "c7.-1", "c7.042", "C7.1", "a.b.1", "ç.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cursor, err := hub.ParseCursor(text)
		switch {
		case err != nil && !errors.Is(err, hub.ErrMalformedCursor):
			t.Fatalf("%q: error %v is not ErrMalformedCursor", text, err)
		case err != nil && cursor != hub.Cursor{}:
			t.Fatalf("%q: refused, and yet it is %+v", text, cursor)
		case err == nil && cursor.String() != text:
			t.Fatalf("%q: read as %+v, which is written %q", text, cursor, cursor)
		case err == nil && (cursor.Sequence < 0 || strings.Trim(cursor.Log, "abcdefghijklmnopqrstuvwxyz0123456789") != ""):
			t.Fatalf("%q: read as %+v, which no log can have", text, cursor)
		}
	})
}
