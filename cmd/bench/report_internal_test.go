package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func sample() *report {
	return &report{Tables: []*table{{
		Name: "storm", Title: "all at once",
		Columns: append([]column{{"case", "case", 0}, {"clients", "clients", 0}, {"whole", "whole ms", 1}}, countColumns...),
		Rows: []row{
			{"case": "limit", "whole": 5.25, "lost": 0, "twice": 0},
			{"case": "Reelay <&>", "clients": 10_000, "whole": 1234.56, "lost": 0, "twice": 0},
		},
		Charts: []chart{
			{title: "one <group>", unit: "ms", labels: []string{"all"}, series: []series{{"limit & co", []float64{5}}, {"Reelay", []float64{1234}}}},
			{title: "two groups", unit: "ms", labels: []string{"a", "b"}, series: []series{{"limit", []float64{0, 1}}, {"Reelay", []float64{2}}}},
		},
	}}}
}

func TestTable_LinesUpWhatItHasAndDashesWhatItHasNot(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	sample().Tables[0].show(&got)
	const want = `
storm: all at once

  case        clients  whole ms  lost  twice
  limit             –       5.2     0      0
  Reelay <&>   10,000   1,234.6     0      0
`
	if got.String() != want {
		t.Errorf("got %s, want %s", got.String(), want)
	}
}

func TestReport_FailsIfAnythingWasLostOrCameTwice(t *testing.T) {
	t.Parallel()
	r := sample()
	if err := r.wrong(); err != nil {
		t.Errorf("nothing is lost: got %v, want nil", err)
	}
	for _, key := range []string{"lost", "twice"} {
		r.Tables[0].Rows[1][key] = 3
		if err := r.wrong(); err == nil || !strings.Contains(err.Error(), "storm: 3 "+key+": Reelay") {
			t.Errorf("3 %s: got %v, want that said", key, err)
		}
		r.Tables[0].Rows[1][key] = 0
	}
}

func TestReport_SavesWhatOtherProgramsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options{json: filepath.Join(dir, "bench.json"), plot: filepath.Join(dir, "bench.svg")}
	if err := sample().save(o); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Tables []struct {
			Name string
			Rows []map[string]any
		}
	}
	if err := json.Unmarshal(content, &back); err != nil || len(back.Tables) != 1 || back.Tables[0].Rows[1]["whole"] != 1234.56 {
		t.Errorf("got %+v, %v, want the row as it is", back, err)
	}
	picture, err := os.Open(o.plot)
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Close()
	bars := 0
	for d := xml.NewDecoder(picture); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "rect" {
			bars++
		}
	}
	// The paper, two bars and two (what was not measured has none), and the legend of the second chart.
	if want := 1 + 2 + 2 + 2; bars != want {
		t.Errorf("got %d rectangles, want %d", bars, want)
	}
}

func TestParse_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	gateway := filepath.Join(t.TempDir(), "reelay")
	if err := os.WriteFile(gateway, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string // in the error; empty for none
	}{
		{[]string{"--reelay", gateway, "all"}, ""},
		{[]string{"latency", "--reelay", gateway, "--quick", "storm"}, ""},
		{[]string{"--reelay", gateway}, "no table is named"},
		{[]string{"--reelay", gateway, "latncy"}, `there is no table "latncy"`},
		{[]string{"--reelay", gateway, "--time", "10ms", "all"}, "at least 1s"},
		{[]string{"--reelay", gateway, "--rounds", "0", "all"}, "at least 1"},
		{[]string{"--reelay", gateway, "--connections", "10,0", "memory"}, "at least 1"},
		{[]string{"--reelay", gateway, "--connections", "many", "memory"}, "numbers of connections"},
		{[]string{"--reelay", gateway, "--rate", "0", "steady"}, "at least 1"},
		{[]string{"--reelay", gateway, "--steady", "1s", "steady"}, "at least 5s"},
		{[]string{"--reelay", gateway, "--plot", "bench.png", "all"}, ".svg"},
		{[]string{"--reelay", gateway + "x", "all"}, "run make build"},
		{[]string{"--fast", "all"}, "bench --help explains"},
	} {
		_, names, err := parse(c.args, io.Discard)
		switch {
		case c.want == "" && (err != nil || len(names) == 0):
			t.Errorf("%q: got %v, %v, want tables", c.args, names, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
	var help strings.Builder
	if _, _, err := parse([]string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-profiles") {
		t.Errorf("--help: got %v and %s", err, help.String())
	}
}

func TestParse_KnowsHowManyConnectionsToTry(t *testing.T) {
	t.Parallel()
	gateway := filepath.Join(t.TempDir(), "reelay")
	if err := os.WriteFile(gateway, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want sizes
	}{
		{[]string{"memory"}, sizes{10_000, 20_000}},
		{[]string{"--quick", "memory"}, sizes{3000}},
		{[]string{"--connections", "50000", "memory"}, sizes{50_000}},
		{[]string{"--quick", "--connections", "100, 200", "memory"}, sizes{100, 200}},
	} {
		o, _, err := parse(append(c.args, "--reelay", gateway), io.Discard)
		if err != nil || !slices.Equal(o.sizes, c.want) {
			t.Errorf("%q: got %v, %v, want %v", c.args, o.sizes, err, c.want)
		}
	}
}

// What no process may have is not tried, and what is left is tried once.
func TestOptions_FitTheMachine(t *testing.T) {
	t.Parallel()
	o := options{sizes: sizes{100, 1 << 29, 1 << 30}}
	note := o.fit()
	if len(o.sizes) != 2 || o.sizes[0] != 100 || o.sizes[1] >= 1<<29 || !strings.Contains(note, "ulimit") {
		t.Errorf("got %v and %q, want 100 and what can be had, and why", o.sizes, note)
	}
	if note := o.fit(); note != "" {
		t.Errorf("what fits: got %q, want no note", note)
	}
}
