// Command bench is `make bench`: it measures Reelay on this machine, each figure beside the limit it is up against, in
// the same run. Servers are real and its own: Postgres that flushes each commit, Redis, and gateways as processes.
// Clients and writers are in this process, so that one clock times an event from before its commit to its socket.
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
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `bench measures Reelay on this machine, each figure beside the limit it is up against, in the same run.

  bin/bench [flags] all | TABLE ...      or, with the build before it:  make bench BENCH="--quick latency storm"

tables:
  writers      What the trigger costs those who write: updates a second with no trigger (the limit), with one that only
               inserts a row into an outbox, with plain pg_notify, with Reelay's and no leader, and with Reelay.
  latency      Milliseconds from before an UPDATE that commits to the client's socket, for 1,000 users with 10 videos: one
               client that LISTENs, a bare gorilla/websocket server that is told of each commit by who made it (the
               limits), Reelay on one replica and on three.
  throughput   Events a second when more are waiting than can be delivered, and CPU seconds of each server for 100,000 of
               them, beside the same updates without a trigger, and beside a loop around gorilla/websocket that only writes.
  memory       Resident memory of a replica for each idle, authenticated connection, and how many connect in a second: by
               10,000 and 20,000 WebSockets and as many event streams, or by --connections.
  scaling      CPU of one replica for an event of its own users, while other replicas and other users come: it
               follows its own users, not the whole system.
  storm        10,000 clients that come back at once, one UPDATE of 50,000 rows, and 1,000 clients that were away for
               five seconds.
  steady       How large the tables stay under constant load (--rate) for a while (--steady), with events kept for a sixth
               of it, or a minute: sizes, rows, latency and the gateway's memory at twelve moments, and at the end the
               last quarter against the second. What does not grow stays near 1.00.

Each table says how many events were lost or came twice; if any were, the exit code is 1. Machines are noisy: what is
compared takes turns, and the medians of all rounds are printed. Other programs that are busy meanwhile spoil it, and
so does a laptop on its battery. All tables take about twenty minutes, with --quick less than five, and rougher.
Ctrl-C ends it at any time, and leaves nothing behind.

  bin/bench --quick all                                  a first look
  bin/bench --json bench.json --plot bench.svg all       figures to keep, and bars to look at
  bin/bench --connections 50000 memory                   where so many files may be opened (ulimit -n)
  bin/bench --steady 1h steady                           do the tables stay as they are?
  bin/bench --rounds 1 --profiles /tmp/p throughput      where the time goes: go tool pprof -top /tmp/p/*-leader.pprof

flags:
`

// options are what the measurements share.
type options struct {
	reelay   string
	seconds  time.Duration
	rounds   int
	sizes    sizes // of crowds: memory tries each, storm the first
	unfit    string
	rate     int           // of steady: commits a second
	steady   time.Duration // how long steady takes
	quick    bool
	json     string
	plot     string
	profiles string
	progress *progress
}

// benches are all tables, in the order in which they are made.
var benches = []struct {
	name    string
	measure func(context.Context, options) (*table, error)
}{
	{"writers", writers},
	{"latency", latency},
	{"throughput", throughput},
	{"memory", memory},
	{"scaling", scaling},
	{"storm", storm},
	{"steady", steady},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// From the first signal on, the next one ends us at once; the children end with us (see deploy/local).
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "bench: interrupted; all servers are stopped and removed")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 2 && args[0] == bareCommand {
		return bareServe(ctx, args[1])
	}
	o, names, err := parse(args, stdout)
	if err != nil {
		return err
	}
	o.unfit = o.fit()
	o.progress = newProgress(stderr)
	defer o.progress.close()
	r := &report{Machine: describe(ctx, o), Quick: o.quick, Seconds: o.seconds.Seconds(), Rounds: o.rounds}
	for _, bench := range benches {
		if !slices.Contains(names, bench.name) {
			continue
		}
		t, err := o.progress.bench(bench.name, func() (*table, error) { return bench.measure(ctx, o) })
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", bench.name, err), r.save(o)) // what was measured is not lost
		}
		r.Tables = append(r.Tables, t)
		t.show(stdout)
	}
	if err := r.save(o); err != nil {
		return err
	}
	return r.wrong()
}

// parse reads the command line: flags and names of tables, in any order.
func parse(args []string, out io.Writer) (o options, names []string, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.reelay, "reelay", "", "`path` of the gateway; reelay beside this program, by default")
	flags.DurationVar(&o.seconds, "time", 4*time.Second, "how long each measurement takes")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each is repeated; medians are printed")
	o.sizes = sizes{10_000, 20_000}
	flags.Var(&o.sizes, "connections", "of memory: how many `clients`, each of several numbers; of storm: the first of them")
	flags.DurationVar(&o.steady, "steady", time.Minute, "of steady: how long it takes; an hour is a real run")
	flags.IntVar(&o.rate, "rate", 1000, "of steady: how many rows are updated in a second")
	flags.BoolVar(&o.quick, "quick", false, "one round of one second each, smaller crowds, ten seconds of steady; --time, --rounds, --connections and --steady still count")
	flags.StringVar(&o.json, "json", "", "`file` for the figures as JSON")
	flags.StringVar(&o.plot, "plot", "", "`file` for the figures as bars, an .svg")
	flags.StringVar(&o.profiles, "profiles", "", "`folder` for CPU profiles of the gateways, taken by throughput")
	for rest := args; ; {
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) || err == nil && len(args) == 0 {
			_, _ = io.WriteString(out, usage)
			flags.SetOutput(out)
			flags.PrintDefaults()
			return o, nil, flag.ErrHelp
		} else if err != nil {
			return o, nil, fmt.Errorf("%w (bench --help explains)", err)
		}
		if flags.NArg() == 0 {
			break
		}
		if names, err = named(names, flags.Arg(0)); err != nil {
			return o, nil, err
		}
		rest = flags.Args()[1:]
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return o.complete(names, given)
}

// named adds a table's name to those already asked for.
func named(names []string, name string) ([]string, error) {
	var all []string
	for _, bench := range benches {
		all = append(all, bench.name)
	}
	switch {
	case name == "all":
		return all, nil
	case !slices.Contains(all, name):
		return nil, fmt.Errorf("there is no table %q: name some of %s, or all (bench --help explains)", name, strings.Join(all, ", "))
	}
	return append(names, name), nil
}

// complete checks the options and fills in what was not given.
func (o options) complete(names []string, given map[string]bool) (options, []string, error) {
	if o.quick {
		if !given["time"] {
			o.seconds = time.Second
		}
		if !given["rounds"] {
			o.rounds = 1
		}
		if !given["connections"] {
			o.sizes = sizes{3000}
		}
		if !given["steady"] {
			o.steady = 10 * time.Second
		}
	}
	switch {
	case len(names) == 0:
		return o, nil, errors.New("no table is named: bench all measures everything (bench --help explains)")
	case o.seconds < time.Second:
		return o, nil, fmt.Errorf("--time %v: must be at least 1s", o.seconds)
	case o.rounds < 1:
		return o, nil, errors.New("--rounds must be at least 1")
	case o.steady < 5*time.Second:
		return o, nil, fmt.Errorf("--steady %v: must be at least 5s", o.steady)
	case o.rate < 1:
		return o, nil, errors.New("--rate must be at least 1")
	case o.plot != "" && !strings.EqualFold(filepath.Ext(o.plot), ".svg"):
		return o, nil, fmt.Errorf("--plot %s: the picture is an SVG, so its name must end in .svg", o.plot)
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return o, nil, fmt.Errorf("make the folder for profiles: %w", err)
		}
	}
	if o.reelay == "" {
		self, err := os.Executable()
		if err != nil {
			return o, nil, fmt.Errorf("find this program: %w", err)
		}
		o.reelay = filepath.Join(filepath.Dir(self), "reelay")
	}
	if _, err := os.Stat(o.reelay); err != nil {
		return o, nil, fmt.Errorf("there is no gateway at %s: run make build, or name one by --reelay", o.reelay)
	}
	return o, names, nil
}
