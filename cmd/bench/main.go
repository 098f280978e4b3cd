// Command bench measures Reelay on this machine, each figure beside the limit it is up against, in one run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const usage = `bench measures Reelay on this machine: servers of its own, removed when it ends. Machines are noisy, so it takes turns
between what it compares, and prints medians. Other programs that are busy meanwhile spoil it.

  bench writers    what the trigger costs those who write, beside no trigger, an outbox row alone and plain pg_notify
  bench latency    from before COMMIT to a client's socket, beside a bare LISTEN
  bench memory     resident memory for each idle WebSocket or event stream

Flags, behind the word:
`

// options are what the measurements share.
type options struct {
	reelay  string
	seconds time.Duration
	rounds  int
	conns   int
	// transport is ws or sse.
	transport string
	out       io.Writer
}

var benches = map[string]func(context.Context, options) error{
	"writers": writers,
	"latency": latency,
	"memory":  memory,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o := options{out: out}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		_, _ = fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.reelay, "reelay", besideMe("reelay"), "the gateway's binary")
	flags.DurationVar(&o.seconds, "time", 4*time.Second, "how long each measurement takes")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each is repeated; medians are printed")
	flags.IntVar(&o.conns, "connections", 10000, "of memory: how many clients")
	flags.StringVar(&o.transport, "transport", "ws", "of memory: how they are connected, ws or sse")
	if len(args) == 0 || benches[args[0]] == nil {
		flags.Usage()
		if len(args) > 0 && args[0] != "--help" && args[0] != "-h" {
			return fmt.Errorf("there is no measurement %q", args[0])
		}
		return nil
	}
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if dialers[o.transport] == nil {
		return fmt.Errorf("there is no transport %q: ws or sse", o.transport)
	}
	if _, err := os.Stat(o.reelay); err != nil {
		return fmt.Errorf("there is no gateway at %s: run make build, or name one by -reelay", o.reelay)
	}
	return benches[args[0]](ctx, o)
}

func besideMe(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}
