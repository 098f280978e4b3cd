package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func parserModel(t *testing.T) *kong.Node {
	t.Helper()
	parser, err := newParser(&program{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.Node
}

func TestSettings_HaveTheNamesOfTheirFlags(t *testing.T) {
	t.Parallel()
	settings := 0
	err := kong.Visit(parserModel(t), func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && settingOf(flag.Value) != "" {
			settings++
			if got := flagOf(settingOf(flag.Value)); got != "--"+flag.Name {
				t.Errorf("setting %s belongs to flag %s, and is on --%s", settingOf(flag.Value), got, flag.Name)
			}
		}
		return next(nil)
	})
	if err != nil || settings < 20 {
		t.Errorf("visited %d settings: %v", settings, err)
	}
}

func TestSettings_FlagsWinOverTheEnvironmentAndThatOverDefaults(t *testing.T) {
	t.Parallel()
	environ := []string{"REELAY_LISTEN=:1", "REELAY_ADMIN_LISTEN=:2", "REELAY_WAKE="}
	command := &cli{}
	parser, err := kong.New(command, kong.Resolvers(kong.ResolverFunc(newEnvironment(environ).resolve)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve", "--listen", ":3"}); err != nil {
		t.Fatal(err)
	}
	got := []string{command.Serve.Listen, command.Serve.AdminListen, command.Serve.Wake, command.Serve.Retention}
	if want := []string{":3", ":2", "auto", "24h"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: flag, environment, default for what is empty, default", got, want)
	}
}

func TestUnknownSettings(t *testing.T) {
	t.Parallel()
	known := allSettings(parserModel(t))
	environ := []string{
		// Known, or nobody's business.
		"REELAY_DATABASE_URL=x", "REELAY_TOKEN=x", "PATH=/bin", "reelay_listen=x",
		// What Kubernetes sets for Services named reelay and reelay-admin.
		"REELAY_SERVICE_HOST=10.0.0.1", "REELAY_SERVICE_PORT=80", "REELAY_SERVICE_PORT_HTTP=80", "REELAY_PORT=tcp://10.0.0.1:80",
		"REELAY_PORT_80_TCP=x", "REELAY_PORT_80_TCP_ADDR=x", "REELAY_ADMIN_SERVICE_HOST=x", "REELAY_ADMIN_PORT_9090_TCP_PROTO=x",
		// Slips.
		"REELAY_DATABSE_URL=postgres://u:hunter2@h/d", "REELAY_JWT_SECRETS=x", "REELAY_LOGLEVEL=x", "REELAY_FAVOURITE_COLOUR=red",
	}
	got := newEnvironment(environ).unknownSettings(known)
	want := []string{
		"REELAY_DATABSE_URL is set, but there is no such setting; did you mean REELAY_DATABASE_URL?",
		"REELAY_FAVOURITE_COLOUR is set, but there is no such setting",
		"REELAY_JWT_SECRETS is set, but there is no such setting; did you mean REELAY_JWT_SECRET?",
		"REELAY_LOGLEVEL is set, but there is no such setting; did you mean REELAY_LOG_LEVEL?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUnknownSettings_AreWarnedOf(t *testing.T) {
	t.Parallel()
	got := runProgram(t, &program{}, []string{"REELAY_WAKEUP=poll"}, "version")
	want := "reelay: warning: REELAY_WAKEUP is set, but there is no such setting; did you mean REELAY_WAKE?\n"
	if got.stderr != want || got.code != exitOK {
		t.Errorf("exit code %d, standard error %q; want 0 and %q", got.code, got.stderr, want)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"abc", "acb", 2}, {"abc", "abc", 0}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q): got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
