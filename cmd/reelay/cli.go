package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/reelay/reelay/auth"
)

// cli is the whole command line. The order here is the order in which a newcomer needs the commands.
type cli struct {
	Migrate migrateCommand `cmd:"" help:"Create or update Reelay's schema in your database."`
	Watch   watchCommand   `cmd:"" help:"Attach Reelay to a table of yours."`
	Unwatch unwatchCommand `cmd:"" help:"Detach Reelay from a table."`
	Serve   serveCommand   `cmd:"" help:"Run a gateway."`
	Token   tokenCommand   `cmd:"" help:"Make a token to try things out with, or explain one."`
	Tail    tailCommand    `cmd:"" help:"Follow a user's events in a terminal."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

const description = `Reelay pushes what happens to a user's videos, from Postgres, to that user's own sockets.

From nothing to the first event:

  export REELAY_DATABASE_URL=postgres://postgres@localhost:5432/app
  export REELAY_JWT_SECRET=$(openssl rand -base64 48)
  reelay migrate                                  # once, and after each upgrade
  reelay watch videos                             # once for each table
  reelay serve &                                  # as many as you like
  reelay token --user alice | reelay tail --token -

Each setting is a flag and, where the help names one, an environment variable; the flag wins.`

// program is what a command may touch of the process it runs in.
type program struct {
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer
	environ  environment
	database database
	// warnings are about the environment. run prints them for every command but serve, which logs them.
	warnings []string
}

// command is what every member of cli does.
type command interface {
	Run(ctx context.Context, p *program) error
}

// usageError says that the command line is wrong.
type usageError struct {
	err error
	// help is the command to run for more.
	help string
}

func (e usageError) Error() string { return fmt.Sprintf("%v\n%s explains it", e.err, e.help) }

func (e usageError) Unwrap() error { return e.err }

// run is the whole program but for the process around it. It returns when the command has ended, which it does soon
// after ctx does.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, environ: newEnvironment(environ), database: postgres()}
	return p.run(ctx, args)
}

func (p *program) run(ctx context.Context, args []string) error {
	helped := false
	parser, err := newParser(p, func() { helped = true })
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	parsed, err := parser.Parse(rewrite(args))
	if helped {
		return nil
	}
	if err != nil {
		return explain(parser, err, args)
	}
	chosen, ok := reflect.TypeAssert[command](parsed.Selected().Target.Addr())
	if !ok {
		return fmt.Errorf("command %s cannot be run", parsed.Command())
	}
	p.warnings = p.environ.unknownSettings(allSettings(parser.Model.Node))
	if _, serves := any(chosen).(*serveCommand); !serves {
		for _, warning := range p.warnings {
			_, _ = fmt.Fprintln(p.stderr, "reelay: warning:", warning)
		}
	}
	return chosen.Run(ctx, p)
}

// newParser returns the parser, which reads the environment of p and calls helped after it has printed a help text.
func newParser(p *program, helped func()) (*kong.Kong, error) {
	return kong.New(&cli{},
		kong.Name("reelay"),
		kong.Description(description),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(int) { helped() }),
		kong.Resolvers(kong.ResolverFunc(p.environ.resolve)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, NoAppDescFormat: true, WrapUpperBound: 110}),
		kong.ValueFormatter(formatHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "Database", Title: "Database:"},
			{Key: "Redis", Title: "Redis:"},
			{Key: "HTTP", Title: "HTTP:"},
			{Key: "JWT", Title: "JWT (a shared secret, itself or in a file; or public keys, in files or by a JWKS URL):"},
			{Key: "Relay", Title: "Relay:"},
			{Key: "Logging", Title: "Logging:"},
		}),
	)
}

// formatHelp adds the name a flag has in the environment.
func formatHelp(value *kong.Value) string {
	setting := settingOf(value)
	if setting == "" {
		return value.Help
	}
	return value.Help + " [" + setting + "]"
}

// rewrite turns the other common ways to ask for help and version into ours.
func rewrite(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(args[1:len(args):len(args)], "--help")
	case args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// explain makes a usage error of what the parser says, without the values of secret flags.
func explain(parser *kong.Kong, err error, args []string) error {
	help := "reelay --help"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		help = parse.Context.Selected().FullPath() + " --help"
	}
	text := err.Error()
	secrets := secretFlags(parser.Model.Node)
	for i, arg := range args {
		if secrets[arg] && i+1 < len(args) {
			text = strings.ReplaceAll(text, args[i+1], newSecret(args[i+1]).String())
		}
	}
	return usageError{err: errors.New(hideTokens(text, args)), help: help}
}

// secretFlags returns the flags whose values are never printed.
func secretFlags(node *kong.Node) map[string]bool {
	flags := make(map[string]bool)
	for _, flag := range node.Flags {
		switch flag.Target.Type() {
		case reflect.TypeFor[secret](), reflect.TypeFor[secretURL](), reflect.TypeFor[auth.Secret]():
			flags["--"+flag.Name] = true
		}
	}
	for _, child := range node.Children {
		for name := range secretFlags(child) {
			flags[name] = true
		}
	}
	return flags
}
