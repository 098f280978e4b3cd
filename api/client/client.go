package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// defaultReadLimit leaves room for a whole page of a snapshot, and still bounds what a broken server can make us hold.
const defaultReadLimit = 16 << 20

// Config is what a Client needs to know. Only URL is required.
type Config struct {
	// URL is the gateway's address: http, https, ws or wss, with or without /events at the end.
	URL string
	// Token returns a bearer token. The client keeps it until the gateway refuses it or announces its end, so that
	// clients which all reconnect at once do not all ask for a token as well. An error is tried again later, unless it
	// is ErrUnauthorized. Nil sends no token, for a gateway that reads a cookie set in Header.
	Token func(ctx context.Context) (string, error)
	// Videos limits events to these videos; empty means all of the user's.
	Videos []string
	// After is a cursor kept from earlier: the client resumes behind it.
	After string
	// Snapshot asks for the user's videos as they stand before the first event, or asks for none. Nil leaves it to the
	// gateway: a snapshot, unless After is set. A reset by the gateway brings one in any case.
	Snapshot *bool
	// Header is sent with each handshake.
	Header http.Header
	// ReadLimit is the largest frame accepted, in bytes; zero means 16 MiB.
	ReadLimit int64
	// OnState, if set, is told of each change of the connection. It is called on Run's goroutine and must not block.
	OnState func(Status)
	// Logger, if set, is told what the client does. Tokens are never logged.
	Logger *slog.Logger
	// Dialer, if set, is used to connect, for a proxy or TLS settings of one's own. Its Subprotocols are ignored.
	Dialer *websocket.Dialer
}

// State is where a client stands between connections.
type State string

// The states of a client.
const (
	// Connecting: a connection is being made.
	Connecting State = "connecting"
	// Live: events arrive. Whatever is committed from now on will be seen.
	Live State = "live"
	// Waiting: the connection is gone, and the next attempt comes after Status.Delay.
	Waiting State = "waiting"
)

// Status is a State and what belongs to it.
type Status struct {
	State State
	// Session is what the gateway said of the connection. Live only.
	Session Session
	// Reason is why the last connection ended, and Delay how long the next attempt waits. Waiting only.
	Reason error
	Delay  time.Duration
}

// Client follows one user's events. Use New to make one.
type Client struct {
	config Config
	url    *url.URL
	log    *slog.Logger
	jitter func(time.Duration) time.Duration

	cursor atomic.Pointer[string]
	// What follows belongs to Run.
	token string
	// owed is true while a snapshot is asked for, or announced, and not yet whole.
	owed bool
}

// New checks the configuration and returns a client. It connects to nothing.
func New(config Config) (*Client, error) {
	address, err := eventsURL(config.URL)
	if err != nil {
		return nil, err
	}
	if config.Dialer == nil {
		config.Dialer = &websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 15 * time.Second}
	}
	if config.ReadLimit <= 0 {
		config.ReadLimit = defaultReadLimit
	}
	c := &Client{config: config, url: address, log: config.Logger, jitter: fullJitter}
	c.config.Videos = slices.Clone(config.Videos)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.cursor.Store(&config.After)
	c.owed = config.After == ""
	if config.Snapshot != nil {
		c.owed = *config.Snapshot
	}
	return c, nil
}

// Cursor returns the place behind the last frame that was handled. Kept and given as Config.After, it resumes there.
// It is safe to call at any time.
func (c *Client) Cursor() string { return *c.cursor.Load() }

// Run connects, calls handle with every frame in order, and connects again when the connection is lost. It returns nil
// soon after ctx ends, the error of handle if that returns one, and otherwise an error only when connecting again
// cannot help: a *CloseError, an *HTTPError, or ErrUnauthorized.
//
// The cursor moves when handle has returned nil. A frame that was not handled comes again, to this Run or to a later
// one: Run may be called again when it has returned, but not twice at a time.
//
// handle is called on Run's goroutine. Until it returns nothing is read, and the gateway's pings are not answered: one
// that takes longer than a heartbeat or two loses the connection, and nothing else.
func (c *Client) Run(ctx context.Context, handle func(ctx context.Context, frame Frame) error) error {
	wait := backoff{jitter: c.jitter}
	refused := false // the last token was refused, and no connection has gone live since
	for ctx.Err() == nil {
		live, err := c.connect(ctx, handle)
		if ctx.Err() != nil {
			break
		}
		if live > 0 {
			refused = false
		}
		if live >= settled {
			wait.reset()
		}
		switch judge(err) {
		case stop:
			return err
		case renew:
			if refused {
				return fmt.Errorf("a new token was refused as well: %w", err)
			}
			refused = true
			c.token = ""
		case retry:
		}
		delay := wait.next(retryAfter(err))
		c.log.WarnContext(ctx, "connection lost", "err", err, "retry_in", delay)
		c.report(Status{State: Waiting, Reason: err, Delay: delay})
		if !pause(ctx, delay) {
			break
		}
	}
	return nil
}

func (c *Client) report(status Status) {
	if c.config.OnState != nil {
		c.config.OnState(status)
	}
}

func retryAfter(err error) time.Duration {
	if answered, ok := errors.AsType[*HTTPError](err); ok {
		return answered.RetryAfter
	}
	return 0
}

// address returns where to connect now: the cursor has moved since the last time.
func (c *Client) address() string {
	query := c.url.Query()
	for _, video := range c.config.Videos {
		query.Add("video", video)
	}
	cursor := c.Cursor()
	if cursor != "" {
		query.Set("after", cursor)
	}
	// The gateway sends a snapshot to whoever has no cursor, unless told otherwise. A snapshot that was cut off is asked
	// for again, whatever the cursor says by now.
	wanted := c.config.Snapshot
	switch {
	case c.owed && (cursor != "" || wanted != nil):
		query.Set("snapshot", "1")
	case !c.owed && cursor == "" && wanted != nil && !*wanted:
		query.Set("snapshot", "0")
	}
	address := *c.url
	address.RawQuery = query.Encode()
	return address.String()
}

// eventsURL turns the address of a gateway into the one to connect to.
func eventsURL(text string) (*url.URL, error) {
	address, err := url.Parse(text)
	if err != nil || address.Host == "" {
		// The parser's own words are left out: they can repeat a password.
		return nil, errors.New("gateway URL: not of the form https://host[:port]")
	}
	switch address.Scheme {
	case "http", "ws":
		address.Scheme = "ws"
	case "https", "wss":
		address.Scheme = "wss"
	default:
		return nil, fmt.Errorf("gateway URL: scheme %q is none of http, https, ws, wss", address.Scheme)
	}
	if address.User != nil {
		return nil, errors.New("gateway URL: a user name has no place in it, the token says who you are")
	}
	for _, own := range []string{"after", "video", "snapshot"} {
		if address.Query().Has(own) {
			return nil, fmt.Errorf("gateway URL: %s= belongs in Config, not in the URL", own)
		}
	}
	address.Fragment = ""
	address.Path = strings.TrimRight(address.Path, "/")
	if !strings.HasSuffix(address.Path, "/events") {
		address.Path += "/events"
	}
	address.RawPath = ""
	return address, nil
}
