package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/reelay/reelay/deploy"
	"github.com/reelay/reelay/deploy/local"
)

// balancerTimeout is how long the balancer gets until the page can be had through it.
const balancerTimeout = 10 * time.Second

// balancer is what listens on the port that people open.
type balancer struct {
	kind string
	pid  int
}

// startBalancer starts HAProxy with deploy/haproxy.cfg, or without an installed one the balancer of proxy.go.
func (s *stack) startBalancer(ctx context.Context) error {
	path, err := findHAProxy()
	if err != nil {
		err = s.startProxy(ctx)
	} else {
		err = s.startHAProxy(path)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, balancerTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !answersOK(ctx, s.url()) {
		select {
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("wait for %s on port %d: %w", s.balancer.kind, s.opts.port, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// url is where the page is, and everything else.
func (s *stack) url() string { return "http://" + loopback(s.opts.port) }

// findHAProxy looks into PATH and into /usr/sbin, which is not in an ordinary user's PATH on Debian.
func findHAProxy() (string, error) {
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func (s *stack) startHAProxy(path string) error {
	config := s.folder.file("haproxy.cfg")
	if err := os.WriteFile(config, deploy.HAProxy, 0o600); err != nil {
		return fmt.Errorf("write the configuration of HAProxy: %w", err)
	}
	log, err := s.openLog("haproxy")
	if err != nil {
		return err
	}
	settings := map[string]string{"REELAY_BIND": loopback(s.opts.port), "REELAY_APP": s.app.address}
	for i, r := range s.replicas {
		name := "REELAY_REPLICA_" + strconv.Itoa(i+1)
		settings[name] = loopback(r.public)
		settings[name+"_ADMIN"] = strconv.Itoa(r.admin)
	}
	// -db keeps it in the foreground: one process, which ends with us.
	process, err := local.StartProcess(local.Command{
		Path: path, Args: []string{"-db", "-f", config}, Env: reelayEnv(settings), Log: log,
	})
	if err != nil {
		return err
	}
	s.balancer = &balancer{kind: "HAProxy", pid: process.PID()}
	s.onStop("HAProxy", process.Stop)
	s.mind("HAProxy", process.Done(), process.Err)
	return nil
}

func (s *stack) startProxy(ctx context.Context) error {
	app := newUpstream(s.app.address, "")
	replicas := make([]*upstream, len(s.replicas))
	for i, r := range s.replicas {
		replicas[i] = newUpstream(loopback(r.public), r.readyURL())
	}
	listener, err := listen(ctx, s.opts.port)
	if err != nil {
		return err
	}
	pool := newPool(replicas)
	s.minders.Go(func() { pool.check(s.life) })
	mux := http.NewServeMux()
	mux.Handle("/events", pool)
	mux.Handle("/tickets", pool)
	mux.Handle("/", newPool([]*upstream{app}))
	server := serveHTTP(listener, mux)
	s.balancer = &balancer{kind: "Go balancer", pid: os.Getpid()}
	s.onStop("balancer", server.stop)
	s.mind("the balancer", server.done, server.err)
	return nil
}
