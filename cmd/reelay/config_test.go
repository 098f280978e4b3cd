package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/reelay/reelay/auth"
)

const testSecret = "correct horse battery staple 0123456789"

// goodSettings are the fewest that serve starts with.
func goodSettings(more ...string) []string {
	return append([]string{"REELAY_DATABASE_URL=postgres://reelay@db/app", "REELAY_JWT_SECRET=" + testSecret}, more...)
}

// parseServe reads serve's settings from the environment.
func parseServe(t *testing.T, environ []string) (Config, error) {
	t.Helper()
	command := &cli{}
	parser, err := kong.New(command, kong.Resolvers(kong.ResolverFunc(newEnvironment(environ).resolve)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	return command.Serve.config()
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "setting")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfig_NamesEverythingThatIsWrongAtOnce(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"nothing_set": nil,
		"all_wrong": {
			"REELAY_DATABASE_URL=mysql://reelay:hunter2@db/app", "REELAY_REDIS_URL=redis.example.com:6379", "REELAY_REDIS_PREFIX={x}",
			"REELAY_LISTEN=8080", "REELAY_ADMIN_LISTEN=127.0.0.1:http", "REELAY_REPLICA=replica 1",
			"REELAY_ALLOWED_ORIGINS=https://app.example.com/,app.example.com,*", "REELAY_JWT_SECRET=hunter2", "REELAY_JWT_USER_CLAIM=exp",
			"REELAY_RETENTION=7d", "REELAY_WAKE=always", "REELAY_LOG_LEVEL=verbose", "REELAY_LOG_FORMAT=xml",
		},
	} {
		_, err := parseServe(t, environ)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		golden(t, filepath.Join("settings", name+".txt"), err.Error()+"\n")
	}
}

func TestConfig_ReadsEverySetting(t *testing.T) {
	t.Parallel()
	got, err := parseServe(t, goodSettings(
		"REELAY_REDIS_URL=rediss://:hunter2@redis:6379", "REELAY_REDIS_PREFIX=staging", "REELAY_LISTEN=127.0.0.1:0",
		"REELAY_ADMIN_LISTEN=[::1]:0", "REELAY_ALLOWED_ORIGINS=https://App.example.com:443, http://localhost:3000", "REELAY_RETENTION=72h",
		"REELAY_WAKE=Poll", "REELAY_REPLICA=r-1", "REELAY_LOG_LEVEL=WARN", "REELAY_LOG_FORMAT=text",
		"REELAY_JWT_ISSUER=https://issuer", "REELAY_JWT_AUDIENCE=events", "REELAY_JWT_USER_CLAIM=uid",
		"REELAY_JWT_LEEWAY=5s", "REELAY_JWT_MAX_LIFETIME=2h",
	))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		RedisPrefix: "staging", Listen: "127.0.0.1:0", AdminListen: "[::1]:0", AllowedOrigins: []string{"https://app.example.com", "http://localhost:3000"},
		Retention: 72 * time.Hour, Wake: "poll", Replica: "r-1", LogLevel: slog.LevelWarn, LogFormat: "text",
	}
	if got.DatabaseURL.Reveal() != "postgres://reelay@db/app" || got.RedisURL.Reveal() != "rediss://:hunter2@redis:6379" {
		t.Errorf("URLs: got %q and %q", got.DatabaseURL.Reveal(), got.RedisURL.Reveal())
	}
	if got.JWT.Issuer != "https://issuer" || got.JWT.Audience != "events" || got.JWT.UserClaim != "uid" ||
		got.JWT.Leeway != 5*time.Second || got.JWT.MaxLifetime != 2*time.Hour {
		t.Errorf("JWT: got %+v", got.JWT)
	}
	checkSigns(t, got.JWT, testSecret)
	got.DatabaseURL, got.RedisURL, got.JWT = secretURL{}, secretURL{}, auth.Config{}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// checkSigns fails unless config holds the secret: what one signs the other accepts.
func checkSigns(t *testing.T, config auth.Config, secret string) {
	t.Helper()
	token, err := config.Mint("alice", time.Minute)
	if err != nil {
		t.Fatalf("mint: %v", err)
	}
	config.Secrets = []auth.Secret{auth.NewSecret(secret)}
	verifier, err := auth.NewVerifier(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(token); err != nil {
		t.Errorf("the configuration does not hold the secret: %v", err)
	}
}

func TestConfig_ReadsSecretsFromFiles(t *testing.T) {
	t.Parallel()
	got, err := parseServe(t, []string{
		"REELAY_DATABASE_URL_FILE=" + writeFile(t, "postgres://reelay:hunter2@db/app\n"),
		"REELAY_REDIS_URL_FILE=" + writeFile(t, "unix:///run/redis.sock"),
		"REELAY_JWT_SECRET_FILE=" + writeFile(t, testSecret+"\r\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.DatabaseURL.Reveal() != "postgres://reelay:hunter2@db/app" || got.RedisURL.Reveal() != "unix:///run/redis.sock" {
		t.Errorf("URLs: got %q and %q", got.DatabaseURL.Reveal(), got.RedisURL.Reveal())
	}
	checkSigns(t, got.JWT, testSecret)
}

func TestConfig_RefusesWhatWouldNotWork(t *testing.T) {
	t.Parallel()
	empty, good := writeFile(t, "\n"), writeFile(t, testSecret)
	huge := writeFile(t, strings.Repeat("x", 64<<10+1))
	for _, test := range []struct {
		setting string   // replaces the good one of its name
		drop    []string // good ones that are left away
		want    string
	}{
		{"REELAY_DATABASE_URL=host=db dbname=app", nil, "REELAY_DATABASE_URL (--database-url): does not begin with postgres://"},
		{"REELAY_DATABASE_URL=postgres://u:pa/ss@db/app", nil, "is not a URL; in a password, write / as %2F"},
		{"REELAY_DATABASE_URL_FILE=" + good, nil, "REELAY_DATABASE_URL_FILE (--database-url-file): is set together with REELAY_DATABASE_URL; keep one"},
		{"REELAY_DATABASE_URL_FILE=postgres://u:hunter2@db/app", []string{"REELAY_DATABASE_URL"}, "is a URL and not the path of a file; it belongs in REELAY_DATABASE_URL"},
		{"REELAY_DATABASE_URL_FILE=/does/not/exist", []string{"REELAY_DATABASE_URL"}, "the file it names cannot be read: no such file or directory"},
		{"REELAY_DATABASE_URL_FILE=" + empty, []string{"REELAY_DATABASE_URL"}, "the file it names is empty"},
		{"REELAY_DATABASE_URL_FILE=" + good, []string{"REELAY_DATABASE_URL"}, "REELAY_DATABASE_URL_FILE (--database-url-file): does not begin with postgres://"},
		{"REELAY_REDIS_URL=http://redis", nil, "REELAY_REDIS_URL (--redis-url): does not begin with redis://"},
		{"REELAY_REDIS_PREFIX=" + strings.Repeat("x", 65), nil, "is not 1 to 64 letters"},
		{"REELAY_JWT_SECRET=hunter2", nil, "REELAY_JWT_SECRET (--jwt-secret): shared JWT secret of 7 bytes: at least 32"},
		{"REELAY_JWT_SECRET_FILE=" + good, nil, "REELAY_JWT_SECRET (--jwt-secret): is set together with REELAY_JWT_SECRET_FILE; keep one"},
		{"REELAY_JWT_SECRET_FILE=" + huge, []string{"REELAY_JWT_SECRET"}, "it is over 64 KiB long"},
		{"REELAY_JWT_SECRET_FILE=" + testSecret, []string{"REELAY_JWT_SECRET"}, "the file it names cannot be read: no such file or directory"},
		{"REELAY_JWT_PUBLIC_KEY_FILE=" + good, nil, "REELAY_JWT_SECRET (--jwt-secret): is set together with REELAY_JWT_PUBLIC_KEY_FILE; keep one"},
		{"REELAY_JWT_PUBLIC_KEY_FILE=" + good, []string{"REELAY_JWT_SECRET"}, "REELAY_JWT_PUBLIC_KEY_FILE (--jwt-public-key-file): JWT public key file"},
		{"REELAY_JWT_PREVIOUS_SECRET=hunter2", nil, "REELAY_JWT_PREVIOUS_SECRET (--jwt-previous-secret): shared JWT secret of 7 bytes: at least 32"},
		{"REELAY_JWT_PREVIOUS_SECRET=" + testSecret, []string{"REELAY_JWT_SECRET"}, "REELAY_JWT_PREVIOUS_SECRET (--jwt-previous-secret): is set, and REELAY_JWT_SECRET is not"},
		{"REELAY_JWT_PREVIOUS_SECRET_FILE=" + empty, nil, "REELAY_JWT_PREVIOUS_SECRET_FILE (--jwt-previous-secret-file): the file it names is empty"},
		{"REELAY_JWKS_URL=https://issuer.example/jwks.json", nil, "REELAY_JWT_SECRET (--jwt-secret): is set together with REELAY_JWKS_URL; keep one"},
		{"REELAY_JWKS_URL=http://127.0.0.1/jwks.json", []string{"REELAY_JWT_SECRET"}, "REELAY_JWKS_URL (--jwks-url): JWKS URL: plain http"},
		{"REELAY_JWKS_URL=https://u:hunter2@issuer.example/", []string{"REELAY_JWT_SECRET"}, "JWKS URL: has a user name or password"},
		{"REELAY_JWT_PUBLIC_KEY_FILE= , ", []string{"REELAY_JWT_SECRET"}, "REELAY_JWT_PUBLIC_KEY_FILE (--jwt-public-key-file): names no file"},
		{"REELAY_JWT_PUBLIC_KEY_FILE=" + good + "," + empty, []string{"REELAY_JWT_SECRET"}, "no PEM block in it; turn a DER file into one with: openssl pkey -pubin -inform der -in public.der -out public.pem; JWT public key file"},
		{"REELAY_JWT_LEEWAY=0s", nil, `REELAY_JWT_LEEWAY (--jwt-leeway): "0s" is shorter than a second`},
		{"REELAY_JWT_LEEWAY=30", nil, `"30" is not a duration`},
		{"REELAY_JWT_LEEWAY=11m", nil, "token leeway 11m0s: must be between 0 and 10m0s"},
		{"REELAY_JWT_MAX_LIFETIME=1d", nil, `REELAY_JWT_MAX_LIFETIME (--jwt-max-lifetime): "1d" is not a duration`},
		{"REELAY_JWT_MAX_LIFETIME=-1h", nil, "is shorter than a second, and would refuse every token"},
		{"REELAY_RETENTION=59s", nil, `REELAY_RETENTION (--retention): "59s" is shorter than a minute; for example 24h`},
		{"REELAY_RETENTION=-1h", nil, "is shorter than a minute"},
		{"REELAY_LISTEN=:65536", nil, "has no port between 0 and 65535"},
		{"REELAY_LISTEN=http://0.0.0.0:8080", nil, "is not host:port"},
		{"REELAY_LISTEN=/tmp/x:80", nil, "has no host name or address before the port"},
		{"REELAY_LISTEN=:9090", nil, `REELAY_ADMIN_LISTEN (--admin-listen): "127.0.0.1:9090" takes the port of REELAY_LISTEN, ":9090"`},
	} {
		name, _, _ := strings.Cut(test.setting, "=")
		environ := slices.DeleteFunc(goodSettings(), func(entry string) bool {
			key, _, _ := strings.Cut(entry, "=")
			return key == name || slices.Contains(test.drop, key)
		})
		_, err := parseServe(t, append(environ, test.setting))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.setting, err, test.want)
			continue
		}
		if strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%s: got more than one problem:\n%v", test.setting, err)
		}
		for _, part := range []string{"hunter2", "pa/ss", ":pa", testSecret} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error repeats a secret: %v", test.setting, err)
			}
		}
	}
}

func TestConfig_TakesWhatWorks(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{
		"REELAY_DATABASE_URL=postgresql://u:p%2Fw@db:5432/app?sslmode=verify-full",
		"REELAY_DATABASE_URL=postgres:///app?host=/var/run/postgresql", "REELAY_DATABASE_URL=postgres://u@%2Fvar%2Frun%2Fpostgresql/app",
		"REELAY_DATABASE_URL=postgres://h1:5432,h2:5432/app", "REELAY_DATABASE_URL=postgres://u@[::1]:5432/app",
		"REELAY_REDIS_URL=unix:///run/redis.sock", "REELAY_RETENTION=1m", "REELAY_LISTEN=gateway:8080", "REELAY_LISTEN=127.0.0.2:9090",
		"REELAY_ALLOWED_ORIGINS=*", "REELAY_ALLOWED_ORIGINS= , ",
	} {
		if _, err := parseServe(t, goodSettings(setting)); err != nil {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func TestCheckOrigins(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		list  string
		want  []string
		wrong string
	}{
		{list: ""},
		{list: "*", want: []string{"*"}},
		{list: "https://a.example, https://a.example:443,HTTPS://A.EXAMPLE", want: []string{"https://a.example"}},
		{list: "http://a.example:80,http://a.example:443", want: []string{"http://a.example", "http://a.example:443"}},
		{list: "https://[2001:db8::1]:443,http://[::1]:3000", want: []string{"https://[2001:db8::1]", "http://[::1]:3000"}},
		{list: "capacitor://localhost,chrome-extension://abcdef", want: []string{"capacitor://localhost", "chrome-extension://abcdef"}},
		{list: "*,https://a.example", wrong: "* allows every origin"},
		{list: "null", wrong: "sandboxed pages"},
		{list: "a.example", wrong: `"a.example" is not scheme://host[:port]`},
		{list: "https://", wrong: "is not scheme://host[:port]"},
		{list: "https://a.example/", wrong: "has something after the host, which no origin has: write https://a.example"},
		{list: "https://a.example/app", wrong: "write https://a.example"},
		{list: "https://a.example?x=1", wrong: "write https://a.example"},
		{list: "https://a.example?", wrong: "write https://a.example"},
		{list: "https://a.example#", wrong: "write https://a.example"},
		{list: "https://*.example", wrong: "is a pattern; name each origin"},
		{list: "https://u:hunter2@a.example", wrong: "an entry has a user name"},
		{list: "u:hunter2@a.example", wrong: "an entry is not scheme://host[:port]"},
		{list: "https://bücher.example", wrong: "punycode"},
		{list: "https://a.example:x", wrong: "is not scheme://host[:port]"},
	} {
		c := &checker{}
		got := checkOrigins(c, "REELAY_ALLOWED_ORIGINS", test.list)
		err := fmt.Sprint(c.err())
		if test.wrong == "" && (c.err() != nil || !slices.Equal(got, test.want)) {
			t.Errorf("%q: got %v, %s; want %v", test.list, got, err, test.want)
		}
		if test.wrong != "" && !strings.Contains(err, test.wrong) {
			t.Errorf("%q: got %s, want an error with %q", test.list, err, test.wrong)
		}
		if strings.Contains(err, "hunter2") {
			t.Errorf("%q: the error repeats a password: %s", test.list, err)
		}
	}
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{LogFormat: "json", LogLevel: slog.LevelInfo}, `"level":"INFO","msg":"seen","n":1}` + "\n"},
		{Config{LogFormat: "text", LogLevel: slog.LevelInfo}, `level=INFO msg=seen n=1` + "\n"},
		{Config{LogFormat: "text", LogLevel: slog.LevelWarn}, ``},
	} {
		var out bytes.Buffer
		newLogger(test.config, &out).Info("seen", "n", 1)
		if got := out.String(); !strings.HasSuffix(got, test.want) || (test.want == "") != (got == "") {
			t.Errorf("%+v: got %q, want %q at the end", test.config, got, test.want)
		}
	}
}

func TestSecrets_AreNeverPrinted(t *testing.T) {
	t.Parallel()
	config, err := parseServe(t, []string{
		"REELAY_DATABASE_URL=postgres://reelay:hunter2@db:5432/app?password=hunter2", "REELAY_REDIS_URL=redis://:hunter2@redis:6379/0",
		"REELAY_JWT_SECRET=hunter2 " + testSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct {
		config Config // an unexported field, which fmt reads without asking its methods
		token  secret
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{config, &config, hidden{config, newSecret("hunter2")}, config.DatabaseURL, config.RedisURL, newSecret("hunter2")} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, format := range []string{"json", "text"} {
		newLogger(Config{LogFormat: format}, &out).Info("starting", "config", config, "database", config.DatabaseURL, "token", newSecret("hunter2"))
	}
	if text := out.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") {
		t.Errorf("a secret was printed:\n%s", text)
	}
	for _, test := range []struct {
		url  secretURL
		want string
	}{
		{config.DatabaseURL, "postgres://db:5432/app"},
		{config.RedisURL, "redis://redis:6379/0"},
		{newSecretURL("postgres:///app?host=/run/pg&password=hunter2"), "postgres:///app?host=/run/pg"},
		{newSecretURL("postgres://u:hun/ter2@db/app"), "[redacted]"},
		{newSecretURL("host=db password=hunter2"), "[redacted]"},
		{secretURL{}, ""},
	} {
		if got := test.url.String(); got != test.want {
			t.Errorf("URL is shown as %q, want %q", got, test.want)
		}
	}
}

// No output of any command, right or wrong, holds what was given as a secret.
func TestSecrets_AreInNoOutput(t *testing.T) {
	t.Parallel()
	const mark = "hunter2"
	broken := fmt.Errorf("connect: connection refused")
	environ := []string{
		"REELAY_DATABASE_URL=postgres://u:" + mark + "@db/app", "REELAY_REDIS_URL=redis://:" + mark + "@redis",
		"REELAY_JWT_SECRET=" + mark, "REELAY_JWT_PREVIOUS_SECRET=" + mark, "REELAY_TOKEN=" + mark, "REELAY_JWT_SECERT=" + mark,
	}
	for _, args := range [][]string{
		{"serve", "--wake", "x"},
		{"serve", "--help"},
		{"migrate"},
		{"migrate", "--status"},
		{"watch", "videos"},
		{"unwatch", "videos"},
		{"token", "--user", "alice"},
		{"tail", "--url", "http://u:" + mark + "@gateway"},
		{"tail", "--token-file", "/x/" + mark},
		{"serve", "--jwt-secret", "-" + mark},
		{"serve", "--database-url", "-" + mark},
		{"tail", "--token", "--" + mark},
		{"serve", "--jwt-secert=" + mark},
		{"migrate", "--database-url", "mysql://u:" + mark + "@db"},
		{"migrate", "--database-url=postgres://u:" + mark + "/@db"},
		{"serve", "--jwt-secret-file", mark},
		{"serve", "--jwt-public-key-file=-----BEGIN " + mark},
		{"serve", "--jwt-previous-secret", "-" + mark},
		{"serve", "--jwks-url", "-" + mark},
		{"serve", "--jwks-url", "ftp://u:" + mark + "@issuer"},
		{"token", "inspect", mark},
		{"token", "inspect", "--jwt-secret=" + testSecret, "a." + mark + ".c"},
	} {
		got := runProgram(t, &program{database: failingDatabase(broken)}, environ, args...)
		if strings.Contains(got.stdout+got.stderr, mark) {
			t.Errorf("%v: the secret is in the output:\n%s%s", args, got.stdout, got.stderr)
		}
	}
}
