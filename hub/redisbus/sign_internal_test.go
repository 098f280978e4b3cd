// Inside the package, since what is signed is not for others, and to measure what the signature costs.
package redisbus

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/reelay/reelay/hub"
)

var update = flag.Bool("update", false, "renew the golden files")

var (
	alices  = newNames("reelay").of("alice")
	control = newNames("reelay").control
)

func testSigner(tb testing.TB, secret string) *signer {
	tb.Helper()
	k := newKeeper(func(context.Context) ([]byte, error) { return []byte(secret), nil }, forMessages)
	key, err := k.get(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return newSigner(key)
}

const testSecret = "a secret of a test, not too short"

func sampleMessages(tb testing.TB) (event, mark []byte) {
	tb.Helper()
	s := testSigner(tb, testSecret)
	event, err := s.appendEvent(nil, alices, "k3f9a2bq", 7, sample())
	if err != nil {
		tb.Fatal(err)
	}
	mark, err = s.appendMark(nil, control, hub.Mark{Log: "k3f9a2bq", Epoch: 7, From: 299, Head: 300}, 12345)
	if err != nil {
		tb.Fatal(err)
	}
	return event, mark
}

// The bytes are read by replicas of other builds, so they may not change unnoticed, the key that is made of a secret
// included. If they must: raise version, and keep what was.
func TestMessage_Golden(t *testing.T) {
	t.Parallel()
	event, mark := sampleMessages(t)
	for name, got := range map[string][]byte{"event_v2": event, "mark_v2": mark} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(got) != string(want) {
			t.Errorf("%s is encoded as\n%swant\n%s", name, hex.Dump(got), want)
		}
	}
}

// golden reads what a golden file shows.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var message []byte
	for line := range strings.Lines(string(text)) {
		digits := regexp.MustCompile(`^[0-9a-f]{8} ([0-9a-f ]*)`).FindStringSubmatch(line)
		if digits == nil {
			continue
		}
		part, err := hex.DecodeString(strings.ReplaceAll(digits[1], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		message = append(message, part...)
	}
	return message
}

// What leaders of the version before send is told apart from what is forged: in a rolling upgrade nobody is to be blamed.
func TestSigner_RefusesOtherVersions(t *testing.T) {
	t.Parallel()
	s := testSigner(t, testSecret)
	event, _ := sampleMessages(t)
	next := bytes.Clone(event)
	next[0]++
	for name, message := range map[string][]byte{
		"an event before": golden(t, "event_v1"), "a mark before": golden(t, "mark_v1"), "an event after": next, "nothing": nil,
	} {
		if _, err := s.open(alices, message); !errors.Is(err, rejectedVersion) {
			t.Errorf("%s: %v, want it refused for its version", name, err)
		}
	}
}

// Cut anywhere, changed in any bit, extended, on another channel or with another key: a signature fits one message only.
func TestSigner_RefusesWhatWasNotSigned(t *testing.T) {
	t.Parallel()
	s := testSigner(t, testSecret)
	event, mark := sampleMessages(t)
	for channel, message := range map[string][]byte{alices: event, control: mark} {
		body, err := s.open(channel, message)
		if err != nil || !bytes.Equal(body, message[1:len(message)-tagSize]) || cap(body) != len(body) {
			t.Fatalf("a genuine message: %q, %v", body, err)
		}
		refused := func(what, channel string, message []byte) {
			t.Helper()
			if body, err := s.open(channel, message); err == nil || body != nil {
				t.Errorf("%s was accepted", what)
			}
		}
		for i := range message {
			refused("a message that is cut off", channel, message[:i])
			for bit := range 8 {
				changed := bytes.Clone(message)
				changed[i] ^= 1 << bit
				refused("a changed message", channel, changed)
			}
		}
		refused("a longer message", channel, append(bytes.Clone(message), 0))
		refused("an empty body", channel, append([]byte{version}, message[len(message)-tagSize:]...))
		refused("a message of zeros", channel, append([]byte{version}, make([]byte, len(message)-1)...))
		for _, other := range []string{"", "other:{5}:o:YWxpY2U", "reelay:{5}:o:Ym9i", channel + "a", channel[:len(channel)-1]} {
			refused("a message of another channel", other, message)
		}
		for _, secret := range []string{testSecret + "x", "another secret of a test, not too short"} {
			if _, err := testSigner(t, secret).open(channel, message); !errors.Is(err, rejectedSignature) {
				t.Errorf("with another secret: %v", err)
			}
		}
		if _, err := newSigner([]byte(testSecret)).open(channel, message); !errors.Is(err, rejectedSignature) {
			t.Errorf("with the secret itself as the key: %v", err)
		}
	}
	// Where the channel's name ends and the message begins is signed as well.
	lender, err := s.appendMark(nil, control, hub.Mark{Log: "l", Epoch: version, Head: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	border := bytes.LastIndexByte(lender[:len(lender)-tagSize], version)
	if _, err := s.open(control+string(lender[:border]), lender[border:]); border == 0 || err == nil {
		t.Errorf("a message that lends %d bytes to the channel's name was accepted", border)
	}
	if _, err := s.open(alices, append([]byte{version}, make([]byte, maxMessage)...)); !errors.Is(err, rejectedSize) {
		t.Errorf("an oversized message: %v", err)
	}
}

// A message as large as may be sent may also be received.
func TestSigner_LargestMessage(t *testing.T) {
	t.Parallel()
	s := testSigner(t, testSecret)
	event := sample()
	event.Subject = strings.Repeat("x", maxBody)
	for {
		message, err := s.appendEvent(nil, alices, "l", 1, event)
		if err != nil {
			event.Subject = event.Subject[1:]
			if len(event.Subject) < maxBody-1000 {
				t.Fatal(err)
			}
			continue
		}
		if _, err := s.open(alices, message); err != nil || len(message) != maxMessage {
			t.Errorf("a message of %d bytes, of %d at most: %v", len(message), maxMessage, err)
		}
		return
	}
}

// A signature costs no allocation, neither to make nor to check.
func TestSigner_AllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts what others allocate, too.
	s := testSigner(t, testSecret)
	event, _ := sampleMessages(t)
	body, buf := sample(), make([]byte, 0, 4096)
	plain := testing.AllocsPerRun(100, func() { buf, _ = appendEvent(buf[:0], "k3f9a2bq", 7, body) })
	signed := testing.AllocsPerRun(100, func() { buf, _ = s.appendEvent(buf[:0], alices, "k3f9a2bq", 7, body) })
	if signed > plain {
		t.Errorf("a signed event costs %v allocations, an unsigned one %v", signed, plain)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.open(alices, event) }); n > 0 {
		t.Errorf("checking a signature costs %v allocations", n)
	}
}

// FuzzOpen: whatever arrives, only what was signed is opened.
func FuzzOpen(f *testing.F) {
	event, mark := sampleMessages(f)
	f.Add(alices, event)
	f.Add(control, mark)
	f.Add("", []byte{version})
	s := testSigner(f, testSecret)
	f.Fuzz(func(t *testing.T, channel string, message []byte) {
		_, err := s.open(channel, message)
		genuine := channel == alices && bytes.Equal(message, event) || channel == control && bytes.Equal(message, mark)
		if (err == nil) != genuine {
			t.Errorf("%q on %q: %v", message, channel, err)
		}
	})
}

// BenchmarkEncode and BenchmarkDecode compare a body alone with a whole message: the difference is the signature.
func BenchmarkEncode(b *testing.B) {
	s, event := testSigner(b, testSecret), sample()
	buf := make([]byte, 0, 4096)
	b.Run("body", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = appendEvent(buf[:0], "k3f9a2bq", 7, event)
		}
	})
	b.Run("message", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = s.appendEvent(buf[:0], alices, "k3f9a2bq", 7, event)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	s := testSigner(b, testSecret)
	event, mark := sampleMessages(b)
	var d decoder
	for _, signed := range []bool{false, true} {
		name, cost := "body", func(_ string, message []byte) ([]byte, error) { return message[1 : len(message)-tagSize], nil }
		if signed {
			name, cost = "message", s.open
		}
		b.Run("event/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				body, err := cost(alices, event)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, _, err := d.event(body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("mark/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				body, err := cost(control, mark)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := d.mark(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
