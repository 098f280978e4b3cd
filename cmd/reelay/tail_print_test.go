package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/reelay/reelay/api/client"
)

func readFrame(t *testing.T, text string) client.Frame {
	t.Helper()
	frame := client.Frame{Raw: json.RawMessage(text)}
	if err := json.Unmarshal(frame.Raw, &frame); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return frame
}

func printAll(t *testing.T, colour bool, frames ...string) string {
	t.Helper()
	var out strings.Builder
	p := &printer{out: &out, zone: time.FixedZone("test", 3600), colour: colour}
	for _, frame := range frames {
		if err := p.frame(readFrame(t, frame)); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

var somethingOfEach = []string{
	`{"id":"s","source":"reelay/session","type":"reelay.ready","time":"2026-11-22T10:00:00Z","data":{"user":"alice"}}`,
	`{"id":"p","source":"reelay/session","type":"reelay.snapshot","cursor":"c.1","time":"2026-11-22T10:00:00Z","data":{"videos":[
		{"id":"vid_1","processing_status":"ready","seconds":12.50},{"id":2,"processing_status":null}],"last":true}}`,
	`{"id":"c.2","source":"reelay","type":"video.created","subject":"vid_3","time":"2026-11-22T10:00:00.0004Z","data":{"processing_status":"queued"}}`,
	`{"id":"c.3","source":"reelay","type":"video.updated","subject":"vid_3","time":"2026-11-22T10:00:01.25Z","data":{"title":"T","processing_status":"processing","tries":2,
		"previous":{"processing_status":"queued","tries":1}}}`,
	`{"id":"c.4","source":"reelay","type":"video.updated","subject":"vid_3","time":"2026-11-22T10:00:02Z","data":{"previous":{"secret_column":"was"}}}`,
	`{"id":"c.5","source":"reelay","type":"video.removed","subject":"vid_3","time":"2026-11-22T10:00:03Z"}`,
	`{"id":"c.6","source":"reelay","type":"video.progress","subject":"a video with a name that is longer than a column may be","time":"2026-11-22T10:00:04Z",
		"data":{"percent":50,"note":"","list":[1, {"a" : 2}],"text":"0123456789 0123456789 0123456789 0123456789"}}`,
	`{"id":"c.7","source":"reelay","type":"video.deleted","subject":"vid_3","time":"2026-11-22T10:00:05Z","data":"not an object"}`,
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	golden(t, "tail/plain.txt", printAll(t, false, somethingOfEach...))
}

func TestPrinter_ColoursNothingButWhatItPrints(t *testing.T) {
	t.Parallel()
	coloured := printAll(t, true, somethingOfEach...)
	for _, colour := range []string{faint, green, cyan, red} {
		if !strings.Contains(coloured, colour) {
			t.Errorf("colour %q is not used", colour)
		}
		coloured = strings.ReplaceAll(coloured, colour, "")
	}
	if got, want := strings.ReplaceAll(coloured, reset, ""), printAll(t, false, somethingOfEach...); got != want {
		t.Errorf("without the colours it is\n%s\nwant\n%s", got, want)
	}
}

func TestWantsColour_NeedsATerminal(t *testing.T) {
	t.Parallel()
	if wantsColour(&strings.Builder{}, environment{}) {
		t.Error("colours for what is no terminal")
	}
}

func TestPrinter_KeepsTheTerminalWhole(t *testing.T) {
	t.Parallel()
	const hostile = `\u001b[2J\r\n\u0007\u202e\u0000`
	got := printAll(t, false, `{"id":"c\n1","source":"reelay","type":"video.`+hostile+`","subject":"`+hostile+
		`","data":{"`+hostile+`":"`+hostile+`","previous":{"`+hostile+`":{"x":"`+hostile+`"}}}}`,
		`{"id":"p","source":"reelay/session","type":"reelay.snapshot","cursor":"`+hostile+`","data":{"videos":[{"id":"`+hostile+`","`+hostile+`":"x"}]}}`)
	if strings.Count(got, "\n") != 2 {
		t.Errorf("%d lines, want 2:\n%q", strings.Count(got, "\n"), got)
	}
	if strings.ContainsAny(got, "\x1b\r\a\u202e\x00") {
		t.Errorf("control characters reach the terminal: %q", got)
	}
}
