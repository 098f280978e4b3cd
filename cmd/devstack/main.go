// Command devstack is `make run`: Reelay with everything around it, on this machine. It starts a private Postgres and
// Redis, replicas of bin/reelay behind a load balancer, an example application and a pretend transcoder, and ends all
// of it on Ctrl-C. It touches nothing outside a temporary folder of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// options are the flags.
type options struct {
	port       int
	replicas   int
	transcoder bool
	quiet      bool
}

const usage = `devstack runs Reelay and everything it needs on this machine, until Ctrl-C.

  bin/devstack [flags]        or, with the build before it:  make run

It starts, in a temporary folder and on free ports of 127.0.0.1:
  - a private Postgres and Redis (those the machine may run already are left alone),
  - a table "videos", attached to Reelay with SELECT reelay.watch('videos'),
  - replicas of bin/reelay behind a load balancer: HAProxy, or one in Go where there is no HAProxy,
  - an example application: a page for the users alice and bob, whose buttons are plain SQL,
  - a pretend transcoder, which moves their videos through pending, processing, ready or failed.

Then it prints what runs where, a token for each user, and how to follow a user in a terminal.
Things to try while it runs: kill a replica (it comes back after two seconds), change the table in psql,
open the page twice. Ctrl-C stops everything and removes the folder; a second Ctrl-C does not wait for it.

flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// From the first signal on, the next one ends us at once; the children end with us (see deploy/local).
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return
	default:
		fmt.Fprintf(os.Stderr, "\ndevstack: %v\n", err)
		os.Exit(1)
	}
}

// run is the whole program. It returns nil when ctx ends, which is how people stop it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opts, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	s := newStack(opts, &progress{out: stdout, quiet: opts.quiet})
	err = s.start(ctx)
	if err == nil {
		s.describe(stdout)
		err = s.wait(ctx)
	}
	if ctx.Err() != nil {
		err = nil // being asked to stop while starting is no failure either
	}
	return errors.Join(err, s.stop())
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("devstack", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		flags.PrintDefaults()
	}
	flags.IntVar(&opts.port, "port", 8080, "`port` of the load balancer and the page; when it is taken, the next free one")
	flags.IntVar(&opts.replicas, "replicas", 2, "how many replicas of Reelay to run, `1 to 3`")
	flags.BoolVar(&opts.transcoder, "transcoder", true, "run the pretend transcoder; without it, videos stay as they are")
	flags.BoolVar(&opts.quiet, "quiet", false, "print the address of the page and what goes wrong, nothing else")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return opts, err
		}
		return opts, fmt.Errorf("%w (devstack --help explains)", err)
	}
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("unexpected argument %q (devstack --help explains)", flags.Arg(0))
	case opts.port < 1 || opts.port > 65535:
		return opts, fmt.Errorf("--port %d: a port is a number from 1 to 65535", opts.port)
	case opts.replicas < 1 || opts.replicas > maxReplicas:
		return opts, fmt.Errorf("--replicas %d: must be 1 to %d", opts.replicas, maxReplicas)
	}
	return opts, nil
}
