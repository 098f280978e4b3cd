package main

import (
	"io"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reelay/reelay/api"
	"github.com/reelay/reelay/auth"
)

// Config is what serve runs with: checked, and with defaults filled in. It may be printed and logged as it is.
type Config struct {
	// DatabaseURL is where Postgres is.
	DatabaseURL secretURL
	// RedisURL is where Redis is; zero for a single replica that needs none.
	RedisURL secretURL
	// RedisPrefix begins the name of every channel.
	RedisPrefix string
	// Listen and AdminListen are host:port, where the host may be empty.
	Listen      string
	AdminListen string
	// JWT says which tokens are good.
	JWT auth.Config
	// AllowedOrigins are the origins whose pages may connect, as a browser spells them; "*" alone means any.
	AllowedOrigins []string
	// Cookie is the name of a cookie that may hold a token; empty for none.
	Cookie string
	// TokenInURL allows a token in the URL.
	TokenInURL bool
	// TrustedProxies are addresses and networks whose X-Forwarded-For is believed.
	TrustedProxies []string
	// Limits bounds what clients may take.
	Limits api.Limits
	// RedisSecret authenticates what replicas tell each other; zero: one that lives in the database does.
	RedisSecret secret
	// Retention is how long an event can be caught up with.
	Retention time.Duration
	// Wake is auto, notify or poll.
	Wake string
	// Replica is the name shown in reelay.ready; it may be empty.
	Replica string

	LogLevel  slog.Level
	LogFormat string
}

// minRetention: below it a client that reconnects after a lost connection would already be too late.
const minRetention = time.Minute

// serveCommand is reelay serve. Its flags are text: they are checked together, in config.
type serveCommand struct {
	Database databaseFlags `embed:""`

	RedisURL     secretURL `setting:"REELAY_REDIS_URL" group:"Redis" placeholder:"URL" help:"Where Redis is: redis://user:password@host:6379, rediss:// for TLS, or unix:///run/redis.sock. Without it this replica is the only one."`
	RedisURLFile string    `setting:"REELAY_REDIS_URL_FILE" group:"Redis" placeholder:"PATH" help:"File that holds the Redis URL, instead of the setting itself."`
	RedisPrefix  string    `setting:"REELAY_REDIS_PREFIX" group:"Redis" default:"reelay" placeholder:"reelay" help:"Begins the name of every channel. Gateways that share a Redis and not a database need different ones."`

	RedisSecret     secret `setting:"REELAY_REDIS_SECRET" group:"Redis" placeholder:"SECRET" help:"Authenticates what replicas tell each other by Redis, the same on all of them; at least 32 bytes. Without it, one that lives in the database is used."`
	RedisSecretFile string `setting:"REELAY_REDIS_SECRET_FILE" group:"Redis" placeholder:"PATH" help:"File that holds it, instead of the setting itself."`

	Listen         string `setting:"REELAY_LISTEN" group:"HTTP" default:":8080" placeholder:":8080" help:"Address for clients: GET /events."`
	AdminListen    string `setting:"REELAY_ADMIN_LISTEN" group:"HTTP" default:"127.0.0.1:9090" placeholder:"127.0.0.1:9090" help:"Address for operators: /healthz, /readyz, /metrics, /debug/pprof. Never let strangers reach it."`
	AllowedOrigins string `setting:"REELAY_ALLOWED_ORIGINS" group:"HTTP" placeholder:"ORIGIN,..." help:"Origins whose pages may connect, such as https://app.example.com. Clients that are no browser send none and need none. A lone * allows every page on the web to connect with a token it has: unsafe but for trying out."`
	Cookie         string `setting:"REELAY_COOKIE" group:"HTTP" placeholder:"NAME" help:"Name of a cookie that holds a token. It counts for pages of allowed origins only."`
	TokenInURL     bool   `setting:"REELAY_TOKEN_IN_URL" name:"token-in-url" group:"HTTP" help:"Accept a token as ?access_token=. URLs end up in logs and histories: a ticket from POST /tickets is better."`
	TrustedProxies string `setting:"REELAY_TRUSTED_PROXIES" group:"HTTP" placeholder:"ADDRESS,..." help:"Addresses and networks of your balancers, such as 10.0.0.0/8: what they say in X-Forwarded-For is believed."`
	Replica        string `setting:"REELAY_REPLICA" group:"HTTP" placeholder:"NAME" help:"Name of this replica, shown to clients in reelay.ready."`

	JWT jwtFlags `embed:""`

	Limits limitFlags `embed:""`

	Retention string `setting:"REELAY_RETENTION" group:"Relay" default:"24h" placeholder:"24h" help:"How long events are kept for clients that come back; at least 1m."`
	Wake      string `setting:"REELAY_WAKE" group:"Relay" default:"auto" placeholder:"auto" help:"How the leader learns of new events: auto (NOTIFY while it is quiet, polling while it is busy), notify, or poll (behind a proxy that drops notifications)."`

	LogLevel  string `setting:"REELAY_LOG_LEVEL" group:"Logging" default:"info" placeholder:"info" help:"debug, info, warn or error."`
	LogFormat string `setting:"REELAY_LOG_FORMAT" group:"Logging" default:"json" placeholder:"json" help:"json or text."`
}

// Help implements kong.HelpProvider.
func (*serveCommand) Help() string {
	return `Serves events to browsers, phones and services at GET /events, and stands for election as the one leader that reads them
from Postgres. All gateways are alike: run several behind a balancer, with one Redis, and any of them may die. SIGTERM
drains: clients are told to reconnect, and find another.

Example:

    export REELAY_DATABASE_URL=postgres://reelay@localhost:5432/app
    export REELAY_REDIS_URL=redis://localhost:6379
    export REELAY_JWT_SECRET_FILE=/run/secrets/jwt_secret
    export REELAY_ALLOWED_ORIGINS=https://app.example.com
    reelay serve

Next: ask it how it is, and follow a user's events:

    curl localhost:9090/readyz
    reelay token --user alice | reelay tail --token -`
}

// config checks all settings of serve. Its error names everything that is wrong with them.
func (s *serveCommand) config() (Config, error) {
	c := &checker{}
	config := Config{
		DatabaseURL:    s.Database.url(c),
		RedisURL:       s.redisURL(c),
		RedisPrefix:    s.RedisPrefix,
		Listen:         s.Listen,
		AdminListen:    s.AdminListen,
		AllowedOrigins: checkOrigins(c, "REELAY_ALLOWED_ORIGINS", s.AllowedOrigins),
		Cookie:         s.cookie(c),
		TokenInURL:     s.TokenInURL,
		TrustedProxies: checkProxies(c, "REELAY_TRUSTED_PROXIES", s.TrustedProxies),
		Limits:         s.Limits.config(c),
		RedisSecret:    s.redisSecret(c),
		JWT:            s.JWT.config(c),
		Retention:      s.retention(c),
		Wake:           c.oneOf("REELAY_WAKE", s.Wake, "auto", "notify", "poll"),
		Replica:        s.Replica,
		LogFormat:      c.oneOf("REELAY_LOG_FORMAT", s.LogFormat, "json", "text"),
	}
	if level := c.oneOf("REELAY_LOG_LEVEL", s.LogLevel, "info", "debug", "warn", "error"); level != "" {
		_ = config.LogLevel.UnmarshalText([]byte(level)) // its own four names cannot fail
	}
	// A brace would be taken for a hash tag by Redis Cluster, and the rest would be awkward to type into redis-cli.
	if !plainName.MatchString(s.RedisPrefix) {
		c.reject("REELAY_REDIS_PREFIX", "reelay", "%q is not 1 to 64 letters, digits, dots, dashes, colons or underscores", s.RedisPrefix)
	}
	if s.Replica != "" && !plainName.MatchString(s.Replica) {
		c.reject("REELAY_REPLICA", "reelay-2", "%q is not up to 64 letters, digits, dots, dashes, colons or underscores", s.Replica)
	}
	host, port := checkAddress(c, "REELAY_LISTEN", ":8080", s.Listen)
	adminHost, adminPort := checkAddress(c, "REELAY_ADMIN_LISTEN", "127.0.0.1:9090", s.AdminListen)
	if port == adminPort && port > 0 && (host == adminHost || anyHost(host) || anyHost(adminHost)) {
		c.reject("REELAY_ADMIN_LISTEN", "127.0.0.1:9090", "%q takes the port of REELAY_LISTEN, %q", s.AdminListen, s.Listen)
	}
	return config, c.err()
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

func (s *serveCommand) redisURL(c *checker) secretURL {
	const setting, fileSetting = "REELAY_REDIS_URL", "REELAY_REDIS_URL_FILE"
	const example, fileExample = "redis://redis.example.com:6379", "/run/secrets/redis_url"
	switch {
	case !s.RedisURL.IsZero() && s.RedisURLFile != "":
		c.reject(fileSetting, fileExample, "is set together with %s; keep one of them", setting)
	case s.RedisURLFile != "":
		text := c.file(fileSetting, s.RedisURLFile, fileExample)
		if text != "" {
			checkURL(c, fileSetting, "a file with "+example, text, "redis", "rediss", "unix")
		}
		return newSecretURL(text)
	case !s.RedisURL.IsZero():
		checkURL(c, setting, example, s.RedisURL.Reveal(), "redis", "rediss", "unix")
	}
	return s.RedisURL
}

// cookieName is a cookie's name (RFC 6265 section 4.1.1).
var cookieName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")

func (s *serveCommand) cookie(c *checker) string {
	const setting, example = "REELAY_COOKIE", "session"
	switch {
	case s.Cookie == "":
	case !cookieName.MatchString(s.Cookie):
		c.reject(setting, example, "%q is no name of a cookie", s.Cookie)
	case strings.TrimSpace(s.AllowedOrigins) == "*":
		// Every page on the web could then connect as whoever looks at it.
		c.reject("REELAY_ALLOWED_ORIGINS", "https://app.example.com", "* cannot be together with %s; name the origins", setting)
	}
	return s.Cookie
}

// minRedisSecret is the size of HMAC-SHA-256's own output: a shorter secret is the weakest part.
const minRedisSecret = 32

func (s *serveCommand) redisSecret(c *checker) secret {
	const setting, fileSetting, example = "REELAY_REDIS_SECRET", "REELAY_REDIS_SECRET_FILE", "the output of: openssl rand -base64 48"
	found, from := s.RedisSecret, setting
	if s.RedisSecretFile != "" {
		if !found.IsZero() {
			c.reject(fileSetting, "/run/secrets/redis_secret", "is set together with %s; keep one of them", setting)
			return found
		}
		text := c.file(fileSetting, s.RedisSecretFile, "/run/secrets/redis_secret")
		if text == "" {
			return secret{}
		}
		found, from = newSecret(text), fileSetting
	}
	if n := len(found.Reveal()); n > 0 && n < minRedisSecret {
		c.reject(from, example, "has %d bytes, and needs %d at least", n, minRedisSecret)
	}
	return found
}

func (s *serveCommand) retention(c *checker) time.Duration {
	const setting, example = "REELAY_RETENTION", "24h"
	retention, err := time.ParseDuration(s.Retention)
	switch {
	case err != nil:
		c.reject(setting, example, "%q is not a duration in hours, minutes and seconds", s.Retention)
	case retention < minRetention:
		c.reject(setting, example, "%q is shorter than a minute", s.Retention)
	}
	return retention
}

// checkAddress checks an address to listen on, and returns its parts. Port 0 lets the system choose; -1 is no port.
func checkAddress(c *checker, setting, example, address string) (host string, port int) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		c.reject(setting, example, "%q is not host:port", address)
		return "", -1
	}
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		c.reject(setting, example, "%q has no port between 0 and 65535", address)
		return "", -1
	}
	if strings.ContainsAny(host, "/ ") {
		c.reject(setting, example, "%q has no host name or address before the port", address)
	}
	return host, int(number)
}

// anyHost reports whether to listen on host is to listen on every address.
func anyHost(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// newLogger returns the logger that the configuration asks for.
func newLogger(config Config, stderr io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: config.LogLevel}
	if config.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(stderr, options))
	}
	return slog.New(slog.NewJSONHandler(stderr, options))
}
