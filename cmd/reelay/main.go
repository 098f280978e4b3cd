// Command reelay is the gateway and everything around it in one binary: serve runs it, migrate and watch prepare the
// database, token and tail try it out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(process(run)) }

// process gives run what the process has: its signals as a context, its arguments, its environment and its files. It
// returns the exit code.
func process(run func(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) error) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // until the process ends
		<-signals
		// First of all the second signal gets back its usual meaning, which is to end the process at once: whoever sees
		// that we are leaving can already insist.
		signal.Stop(signals)
		cancel()
	}()
	// A reader that has gone away (reelay tail | head -1, or a log collector that died) is an error of that write, and
	// no reason for the kernel to kill a gateway.
	signal.Ignore(syscall.SIGPIPE)
	return report(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr), os.Stderr)
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// report prints what went wrong, if anything did, and returns the exit code that says so.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "reelay: %v\n", err)
	var usage usageError
	var settings settingsError
	if errors.As(err, &usage) || errors.As(err, &settings) {
		return exitUsage
	}
	return exitFailure
}
