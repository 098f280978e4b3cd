package main

import (
	"context"
	"fmt"
	"time"
)

// tokenCommand is reelay token.
type tokenCommand struct {
	User string        `required:"" placeholder:"ID" help:"The user id, as it stands in the owner column."`
	TTL  time.Duration `name:"ttl" default:"1h" placeholder:"1h" help:"How long the token is good for."`

	JWT jwtFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (*tokenCommand) Help() string {
	return `Signs a token that a gateway with the same JWT settings accepts, and prints nothing else. It needs the shared secret: a
public key cannot sign. In production your own sign-in makes the tokens; this is for trying things out.

Example:

    reelay token --user alice --ttl 10m | reelay tail --token -

Next: follow the user's events with reelay tail, or show the token to a gateway yourself, as Authorization: Bearer.`
}

// Run implements command.
func (t *tokenCommand) Run(_ context.Context, p *program) error {
	c := &checker{}
	config := t.JWT.config(c)
	if err := c.err(); err != nil {
		return err
	}
	token, err := config.Mint(t.User, t.TTL)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout, token); err != nil {
		return fmt.Errorf("print token: %w", err)
	}
	if isTerminal(p.stderr) {
		_, _ = fmt.Fprintf(p.stderr, "good for %s as user %s; follow the events with: reelay tail --token ...\n", t.TTL, t.User)
	}
	return nil
}
