package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

const (
	// Servers get ports from here: below what Linux (32768) and macOS (49152) give to outgoing connections. A port from
	// that range may be taken by any connection of this machine while its server is down, and then the server could not
	// come back on it.
	firstPort = 15000
	lastPort  = 29999
	// portAttempts bounds how many ports are tried.
	portAttempts = 50
	// pollInterval is how often a condition is looked at.
	pollInterval = 5 * time.Millisecond
)

// errPortTaken is what a server's start returns when another program was quicker to take its port.
var errPortTaken = errors.New("the port is taken")

// freePort returns a port of 127.0.0.1 on which nobody listened a moment ago. Only the server's own bind proves more:
// see onFreePort.
func freePort(ctx context.Context) (int, error) {
	var last error
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback(port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("look for a free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("look for a free port of 127.0.0.1: %w", last)
}

// onFreePort calls start with one port after the other until the server could have it.
func onFreePort(ctx context.Context, start func(port int) error) error {
	for range portAttempts {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		if err := start(port); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return fmt.Errorf("after %d attempts: %w", portAttempts, errPortTaken)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// await polls until ready, or until the process or ctx has ended.
func await(ctx context.Context, process *Process, ready func(context.Context) bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ready(ctx) {
			return nil
		}
		select {
		case <-process.Done():
			if err := process.Err(); err != nil {
				return err
			}
			return fmt.Errorf("%s ended with status 0; it said last:\n%s", process.command.Path, process.Output())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; it said last:\n%s", process.command.Path, ctx.Err(), process.Output())
		case <-ticker.C:
		}
	}
}

// bounded gives ctx a deadline if it has none.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
