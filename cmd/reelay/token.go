package main

import (
	"context"
	"fmt"
	"time"
)

// tokenCommand is reelay token.
type tokenCommand struct {
	Mint    mintCommand    `cmd:"" default:"withargs" help:"Make a token to try things out with. This is what token does by itself."`
	Inspect inspectCommand `cmd:"" help:"Explain a token, and why a gateway refuses it."`
}

// Help implements kong.HelpProvider.
func (*tokenCommand) Help() string {
	return `Makes tokens to try things out with, and explains tokens that a gateway does not take. Without the name of a command it
makes one. Both read the JWT settings of the gateway, as flags or from the environment.

Examples:

    reelay token --user alice --ttl 10m | reelay tail --token -
    reelay token inspect - < token.txt

Next: reelay token mint --help and reelay token inspect --help list the settings of each.`
}

// mintCommand is reelay token mint, or reelay token alone.
type mintCommand struct {
	User string        `required:"" placeholder:"ID" help:"The user id, as it stands in the owner column."`
	TTL  time.Duration `name:"ttl" default:"1h" placeholder:"1h" help:"How long the token is good for."`

	JWT jwtFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (*mintCommand) Help() string {
	return `Signs a token that a gateway with the same JWT settings accepts, and prints nothing else. It needs the shared secret: a
public key cannot sign. In production your own sign-in makes the tokens; this is for trying things out.

Example:

    reelay token --user alice --ttl 10m | reelay tail --token -

Next: follow the user's events with reelay tail, or show the token to a gateway yourself, as Authorization: Bearer.`
}

// Run implements command.
func (m *mintCommand) Run(_ context.Context, p *program) error {
	c := &checker{}
	config := m.JWT.config(c)
	if err := c.err(); err != nil {
		return err
	}
	token, err := config.Mint(m.User, m.TTL)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout, token); err != nil {
		return fmt.Errorf("print token: %w", err)
	}
	if isTerminal(p.stderr) {
		_, _ = fmt.Fprintf(p.stderr, "good for %s as user %s; follow the events with: reelay tail --token ...\n", m.TTL, m.User)
	}
	return nil
}
