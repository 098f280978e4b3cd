package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

const (
	// Replicas get ports from here: below what systems give to outgoing connections, so that a replica which was killed
	// finds its port free when it comes back.
	firstPort = 15000
	lastPort  = 29999
	// portsAhead is how many ports above the wanted one are tried for the balancer.
	portsAhead = 100
	// portAttempts bounds the search for the replicas' ports.
	portAttempts = 200
)

// freePorts returns n different ports of 127.0.0.1 on which nobody listened a moment ago.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	var last error
	for range portAttempts {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		listener, err := listen(ctx, port)
		if err != nil {
			last = err
			continue
		}
		// Held until all are found, so that none is found twice.
		defer func() { _ = listener.Close() }()
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("look for %d free ports of 127.0.0.1: %w", n, last)
}

// nextFreePort returns wanted, or the first port above it that is free. A port that may not be used at all, such as
// one below 1024, is an error and not passed over.
func nextFreePort(ctx context.Context, wanted int) (int, error) {
	for port := wanted; port <= min(wanted+portsAhead, 65535); port++ {
		listener, err := listen(ctx, port)
		switch {
		case err == nil:
			return port, listener.Close()
		case !errors.Is(err, syscall.EADDRINUSE):
			return 0, err
		}
	}
	return 0, fmt.Errorf("all ports from %d to %d are taken: choose another with --port", wanted, wanted+portsAhead)
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback(port))
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return listener, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
