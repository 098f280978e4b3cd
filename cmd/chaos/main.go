// Command chaos is `make chaos`: it runs the whole system as real processes on this machine (Postgres, Redis, three
// replicas, and a network between them that can be broken), lets an application write and clients watch, and plays
// everything that can go wrong, in random order. Whatever happens, it compares what each client received with what was
// committed.
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
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	seed        uint64
	rounds      int
	faults      string
	list        bool
	short       bool
	users       int
	sockets     int
	connections int
	rate        int
	herd        int
	binary      string
	keepLogs    string
}

const usage = `chaos breaks Reelay in every way that is known, and checks that nothing is lost.

  bin/chaos [flags]        or, with the build before it:  make chaos CHAOS="--rounds 3"

It starts a private Postgres and Redis and three replicas of bin/reelay, each behind proxies of its own. As root on Linux
each replica gets a network namespace too, so that a cable can be pulled. An application writes all the time; clients
watch. Then each fault is played once in each round, in an order that the seed decides. After each the application pauses,
and what every client received is compared with the application's own log of what it committed: nothing may be lost, come
twice, come out of order or be another user's, and the state that a client has must be what the table holds.

In the end the replicas must hold about what they held at the start: memory, goroutines, descriptors. A herd is let come
and go once before they are looked at first, and is one playing more of its fault: what one herd leaves behind for ever is
part of the start, and what the next ones leave is not.

A fault's recovery is measured by an event that is committed every 20 ms, and by when it comes on each replica.

The exit code is 0 if every promise and every bound was kept, and 1 if not. To look closer at one fault:

  bin/chaos --faults leader-frozen,10 --seed 7 --keep-logs /tmp/logs

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
		fmt.Fprintf(os.Stderr, "\nchaos: %v\n", err)
		os.Exit(1)
	}
}

// errWrong says that the system did not hold.
var errWrong = errors.New("promises or bounds were not kept")

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if o.list {
		printList(stdout)
		return nil
	}
	p, err := o.plan()
	if err != nil {
		return err
	}
	if o.binary == "" {
		if o.binary, err = gatewayBinary(); err != nil {
			return err
		}
	}
	logs, err := openLogs(o.keepLogs)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "seed %d (--seed %d plays the same order again), logs in %s\n", o.seed, o.seed, logs.path)
	s, err := startStack(ctx, stackConfig{binary: o.binary, replicas: 3, width: o.width(), log: logs})
	if err != nil {
		return errors.Join(err, logs.close(true))
	}
	if s.noNetns != nil {
		_, _ = fmt.Fprintf(stdout, "%v: proxies swallow what a pulled cable would\n", s.noNetns)
	}
	r, err := p.carryOut(ctx, s, stdout)
	err = errors.Join(err, s.stop(context.WithoutCancel(ctx)))
	r.broken = append(r.broken, logs.alarms()...)
	if err == nil && (!r.kept() || !r.inTime()) {
		err = errWrong
	}
	_, _ = fmt.Fprintln(stdout)
	r.print(io.MultiWriter(stdout, logs))
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, logs.close(err != nil))
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{seed: uint64(time.Now().UnixNano() % 1e6)}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		flags.PrintDefaults()
	}
	flags.Uint64Var(&o.seed, "seed", o.seed, "decides the order, and every choice; the default is another one each time")
	flags.IntVar(&o.rounds, "rounds", 1, "how often to play each fault")
	flags.StringVar(&o.faults, "faults", "", "which to play, by `names or numbers` with commas between; all, by default")
	flags.BoolVar(&o.list, "list", false, "list the faults, and do nothing")
	flags.BoolVar(&o.short, "short", false, "make faults last shorter, and crowds smaller: all in some two minutes")
	flags.IntVar(&o.users, "users", 50, "users who own videos")
	flags.IntVar(&o.sockets, "sockets", 3, "clients of each user")
	flags.IntVar(&o.connections, "connections", 8, "connections that write")
	flags.IntVar(&o.rate, "rate", 200, "transactions a second, about")
	flags.IntVar(&o.herd, "herd", 0, "clients of the fault herd; 10,000 by default")
	flags.StringVar(&o.binary, "reelay", "", "`path` of the gateway; reelay beside this program, by default")
	flags.StringVar(&o.keepLogs, "keep-logs", "", "`folder` for everybody's logs; by default a temporary one, kept if something is wrong")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w (chaos --help explains)", err)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q (chaos --help explains)", flags.Arg(0))
	}
	for name, value := range map[string]int{"rounds": o.rounds, "users": o.users, "sockets": o.sockets, "connections": o.connections, "rate": o.rate} {
		if value < 1 {
			return o, fmt.Errorf("--%s %d: must be at least 1", name, value)
		}
	}
	return o, nil
}

// plan makes a plan of the flags.
func (o options) plan() (plan, error) {
	chosen, err := choose(o.faults)
	if err != nil {
		return plan{}, err
	}
	p := plan{timing: fullTiming, faults: chosen, rounds: o.rounds}
	if o.short {
		p.timing = shortTiming
	}
	if o.herd > 0 {
		p.herd = o.herd
	}
	p.scenario = scenario{
		users: o.users, sockets: o.sockets, connections: o.connections, seed: o.seed,
		pace: time.Second * time.Duration(o.connections) / time.Duration(o.rate),
	}
	return p, nil
}

// width is how many positions a partition of the log holds: few, so that one fills up, but enough for the largest burst.
func (o options) width() int {
	if o.short {
		return 5000
	}
	return 20_000
}

// gatewayBinary is where make build puts the gateway, beside this program.
func gatewayBinary() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "reelay")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("there is no gateway at %s: run make build, or name one by --reelay", path)
	}
	return path, nil
}

// trimmed shortens a line for the list of what is wrong.
func trimmed(line string) string {
	const most = 300
	if line = strings.TrimSpace(line); len(line) > most {
		return line[:most] + " …"
	}
	return line
}
