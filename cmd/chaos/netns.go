package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// namespacePrefix begins the names of namespaces: it is followed by the pid of their maker and a number.
const namespacePrefix = "rlchaos-"

// namespace is a network of its own for one replica, with two cables out of it. A cable that is pulled is more than a
// proxy can play: nothing is acknowledged any more, no connection is accepted, and nobody sends a FIN or an RST.
type namespace struct {
	name     string
	general  cable // to clients, to Redis and to whoever asks for metrics
	database cable // to Postgres alone
}

// cable is a pair of virtual interfaces, one end here and one in the namespace.
type cable struct {
	device     string // our end
	here, away string // IP addresses
}

// newNamespaces makes so many. Where that is impossible, as without root, it returns why as an error that wraps
// errNoNamespaces.
func newNamespaces(ctx context.Context, count int) ([]*namespace, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("%w: this is not Linux", errNoNamespaces)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: it takes root", errNoNamespaces)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: there is no program ip (package iproute2)", errNoNamespaces)
	}
	sweepNamespaces(ctx)
	network, err := freeNetwork(ctx)
	if err != nil {
		return nil, err
	}
	var all []*namespace
	for n := range count {
		ns, err := newNamespace(ctx, network, n)
		if err != nil {
			removeNamespaces(ctx, append(all, ns))
			return nil, fmt.Errorf("%w: %w", errNoNamespaces, err)
		}
		all = append(all, ns)
	}
	return all, nil
}

var errNoNamespaces = errors.New("no network namespaces")

func newNamespace(ctx context.Context, network string, n int) (*namespace, error) {
	end := func(kind string, host int) cable {
		return cable{
			device: fmt.Sprintf("rl%d%s%d", os.Getpid(), kind, n), // at most 15 bytes
			here:   network + strconv.Itoa(8*n+host), away: network + strconv.Itoa(8*n+host+1),
		}
	}
	ns := &namespace{name: fmt.Sprintf("%s%d-%d", namespacePrefix, os.Getpid(), n), general: end("g", 1), database: end("d", 5)}
	if err := ip(ctx, "netns", "add", ns.name); err != nil {
		return ns, err
	}
	for i, c := range []cable{ns.general, ns.database} {
		peer := fmt.Sprintf("chaos%d", i)
		for _, command := range [][]string{
			{"link", "add", c.device, "type", "veth", "peer", "name", peer, "netns", ns.name},
			{"addr", "add", c.here + "/30", "dev", c.device},
			{"link", "set", c.device, "up"},
			{"-n", ns.name, "addr", "add", c.away + "/30", "dev", peer},
			{"-n", ns.name, "link", "set", peer, "up"},
		} {
			if err := ip(ctx, command...); err != nil {
				return ns, err
			}
		}
	}
	return ns, nil
}

// wrap makes a command run in the namespace. ip replaces itself by the program, so the process is the program's.
func (ns *namespace) wrap(path string, args []string) (string, []string, error) {
	wrapper, err := exec.LookPath("ip")
	if err != nil {
		return "", nil, fmt.Errorf("run in a namespace: %w", err)
	}
	return wrapper, append([]string{"netns", "exec", ns.name, path}, args...), nil
}

// pull and plug take a cable away and bring it back. At our end: in the namespace the interface stays up, as that of a
// host does that cannot know.
func (c cable) pull(ctx context.Context) error { return ip(ctx, "link", "set", c.device, "down") }
func (c cable) plug(ctx context.Context) error { return ip(ctx, "link", "set", c.device, "up") }

// removeNamespaces removes namespaces, and with them their cables. Nothing may run in them any more.
func removeNamespaces(ctx context.Context, all []*namespace) {
	for _, ns := range all {
		_ = ip(ctx, "netns", "del", ns.name) // the next run sweeps
	}
}

// sweepNamespaces removes what a run that was killed has left.
func sweepNamespaces(ctx context.Context) {
	output, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for line := range strings.Lines(string(output)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, ours := strings.CutPrefix(name, namespacePrefix)
		maker, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(maker)
		if ours && err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = ip(ctx, "netns", "del", name)
		}
	}
}

// freeNetwork finds a network of 256 addresses that this machine does not use, among those that are set aside for
// testing networks, and returns it up to its last dot.
func freeNetwork(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "ip", "-o", "addr").Output()
	if err != nil {
		return "", fmt.Errorf("%w: list addresses: %w", errNoNamespaces, err)
	}
	for range 50 {
		network := fmt.Sprintf("198.18.%d.", rand.IntN(256))
		if !strings.Contains(string(output), " "+network) {
			return network, nil
		}
	}
	return "", fmt.Errorf("%w: all of 198.18.0.0/16 is in use", errNoNamespaces)
}

func ip(ctx context.Context, args ...string) error {
	//nolint:gosec // The arguments are all from this file.
	output, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
