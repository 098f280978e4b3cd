package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/reelay/reelay/api/client"
)

// tailCommand is reelay tail.
type tailCommand struct {
	URL       string `setting:"REELAY_URL" default:"http://127.0.0.1:8080" placeholder:"http://127.0.0.1:8080" help:"Address of the gateway, or of the balancer before it."`
	Token     secret `setting:"REELAY_TOKEN" placeholder:"TOKEN" help:"The user's token; - reads it from standard input."`
	TokenFile string `setting:"REELAY_TOKEN_FILE" placeholder:"PATH" help:"File that holds the token; read again whenever a new one is needed."`

	After      string   `placeholder:"CURSOR" help:"Resume behind this cursor, as the last tail showed it."`
	Video      []string `sep:"none" placeholder:"ID" help:"Only events of this video; may be given several times."`
	NoSnapshot bool     `help:"Do not show the videos as they stand first."`
	JSON       bool     `name:"json" help:"Print each frame as it came, one a line."`
}

// Help implements kong.HelpProvider.
func (*tailCommand) Help() string {
	return `Connects as a client, shows the user's videos as they stand and then each event as it happens, and reconnects by itself.
Events go to standard output, what happens to the connection to standard error. Ctrl-C ends it and shows the cursor to go
on from.

Examples:

    $ reelay token --user alice | reelay tail --token -
    connected to replica r1 as alice
    10:00:00.123  video.updated  vid_9  processing_status: processing → ready  k3f9a2bq.42

    reelay tail --token-file token --after k3f9a2bq.42 --json | jq .data

Next: change a row that the user owns, in psql, and look.`
}

// Run implements command.
func (t *tailCommand) Run(ctx context.Context, p *program) error {
	token, err := t.tokens(ctx, p.stdin)
	if err != nil {
		return err
	}
	out := &printer{out: p.stdout, zone: time.Local, colour: wantsColour(p.stdout, p.environ)}
	notes := &notes{out: p.stderr}
	config := client.Config{URL: t.URL, Token: token, Videos: t.Video, After: t.After, OnState: notes.state}
	if t.NoSnapshot {
		config.Snapshot = new(bool)
	}
	events, err := client.New(config)
	if err != nil {
		return usageError{err: err, help: "reelay tail --help"}
	}
	ctx, release := whileRead(ctx, p.stdout)
	defer release()
	err = events.Run(ctx, func(_ context.Context, frame client.Frame) error {
		notes.frame(frame)
		if t.JSON {
			return out.raw(frame)
		}
		return out.frame(frame)
	})
	if errors.Is(err, syscall.EPIPE) || errors.Is(context.Cause(ctx), errReaderGone) {
		// Whoever read has what they wanted, as in: reelay tail | head -1. Which of the lines they have read is not known,
		// so no cursor is offered either.
		return nil
	}
	if cursor := events.Cursor(); cursor != "" && (err == nil || cursor != t.After) { // a cursor may be what was refused
		notes.say("resume with --after %s", cursor)
	}
	if errors.Is(err, client.ErrUnauthorized) && !errors.Is(err, errTokenUsed) {
		return fmt.Errorf("%w\nthe gateway refuses the token: is it of the issuer, and for the audience, that the gateway is set to?", err)
	}
	return err
}

// errTokenUsed is what a token that cannot be renewed comes to.
var errTokenUsed = fmt.Errorf("%w: the token has ended or is refused; make another with: reelay token --user ID", client.ErrUnauthorized)

// tokens returns where the client gets its tokens from.
func (t *tailCommand) tokens(ctx context.Context, stdin io.Reader) (func(context.Context) (string, error), error) {
	const help = "reelay tail --help"
	switch {
	case !t.Token.IsZero() && t.TokenFile != "":
		return nil, usageError{errors.New("--token (REELAY_TOKEN) and --token-file (REELAY_TOKEN_FILE) are both set; keep one of them"), help}
	case t.TokenFile != "" && t.TokenFile != "-":
		return func(context.Context) (string, error) {
			content, err := readSecretFile(t.TokenFile)
			if err != nil {
				return "", fmt.Errorf("read the token file: %w", err)
			}
			return strings.TrimSpace(content), nil
		}, nil
	case t.TokenFile == "-" || t.Token.Reveal() == "-":
		text, err := readAll(ctx, stdin)
		if err != nil {
			return nil, fmt.Errorf("read the token from standard input: %w", err)
		}
		t.Token = newSecret(strings.TrimSpace(text))
		if t.Token.IsZero() {
			return nil, usageError{errors.New("there is no token on standard input"), help}
		}
	case t.Token.IsZero():
		return nil, usageError{errors.New("no token: set --token (REELAY_TOKEN) or --token-file (REELAY_TOKEN_FILE)"), help}
	}
	given := false
	return func(context.Context) (string, error) {
		if given {
			return "", errTokenUsed
		}
		given = true
		return t.Token.Reveal(), nil
	}, nil
}

// readAll reads until the end or until ctx ends. A read of standard input cannot be interrupted: the goroutine of one
// that is given up ends with the process, which is soon.
func readAll(ctx context.Context, reader io.Reader) (string, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		content, err := io.ReadAll(io.LimitReader(reader, maxSecretFile))
		done <- result{content, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case r := <-done:
		return string(r.content), r.err
	}
}

// notes tells on standard error what happens to the connection.
type notes struct {
	out  io.Writer
	live bool
}

func (n *notes) say(format string, args ...any) {
	_, _ = fmt.Fprintf(n.out, format+"\n", args...)
}

// state is the client's OnState.
func (n *notes) state(status client.Status) {
	switch status.State {
	case client.Connecting:
	case client.Live:
		n.live = true
		line := "connected"
		if status.Session.Replica != "" {
			line += " to replica " + clean(status.Session.Replica)
		}
		line += " as " + clean(status.Session.User)
		if status.Session.Resumed {
			line += ", resumed"
		}
		n.say("%s", line)
	case client.Waiting:
		what := "no connection"
		if n.live {
			what = "lost"
		}
		n.live = false
		n.say("%s: %s, retrying in %s", what, clean(status.Reason.Error()), status.Delay.Round(time.Millisecond))
	}
}

// frame tells of the gateway's own frames that a person should know about.
func (n *notes) frame(frame client.Frame) {
	var data struct {
		Reason    string    `json:"reason"`
		Code      string    `json:"code"`
		Message   string    `json:"message"`
		Hint      string    `json:"hint"`
		Truncated bool      `json:"truncated"`
		Expires   time.Time `json:"expires"`
		Unknown   []string  `json:"unknown"`
	}
	if !frame.Own() || frame.Decode(&data) != nil {
		return
	}
	switch frame.Type {
	case client.TypeReset:
		n.say("the cursor cannot be resumed from (%s), everything is shown again", clean(data.Reason))
	case client.TypeSnapshot:
		if data.Truncated {
			n.say("there are more videos than a snapshot holds")
		}
	case client.TypeSubscribed:
		for _, video := range data.Unknown {
			n.say("no video %s is known to be this user's", clean(video))
		}
	case client.TypeExpiring:
		n.say("the token ends at %s", data.Expires.Local().Format(time.TimeOnly))
	case client.TypeError:
		n.say("the gateway says %s: %s %s", clean(data.Code), clean(data.Message), clean(data.Hint))
	}
}
