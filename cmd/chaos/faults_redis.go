package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// leaderWithoutRedis makes the leader's link to Redis swallow everything. It goes on numbering, and the replicas read
// the log.
func leaderWithoutRedis(ctx context.Context, e *episode) error {
	leader, _, err := e.leads(ctx)
	if err != nil {
		return err
	}
	e.mind(e.replicas...)
	slow, err := leader.slowPublications(ctx)
	if err != nil {
		return err
	}
	leader.redis.swallow(out, in)
	defer leader.redis.heal()
	from := now()
	if err := e.recovers(ctx, from, e.replicas, nil); err != nil {
		return err
	}
	e.lasts(ctx, from, e.swallowed)
	e.unhindered(from)
	after, err := leader.slowPublications(ctx)
	if err != nil {
		return err
	}
	if after > slow {
		e.exceeds("%d publications took longer than a second", after-slow)
	}
	return nil
}

// slowPublications returns how many took longer than a second, and a little for the clock.
func (r *replica) slowPublications(ctx context.Context) (int, error) {
	m, err := r.metrics(ctx)
	if err != nil {
		return 0, err
	}
	return int(m.sum("reelay_relay_publish_seconds_count") - m[`reelay_relay_publish_seconds_bucket{le="1.024"}`]), nil
}

// redisKilled kills Redis, and starts it again, empty.
func redisKilled(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	e.redis.Kill()
	gone := now()
	took, err := e.flow(ctx, gone, e.probes)
	if err != nil {
		return fmt.Errorf("without Redis: %w", err)
	}
	e.notef("without Redis after %s", seconds(took))
	e.lasts(ctx, gone, e.redisGone)
	if err := e.redis.Start(ctx); err != nil {
		return err
	}
	return e.recovers(ctx, now(), e.replicas, func() bool { return e.busUp(ctx, e.replicas...) })
}

// redisFrozen stops Redis where it stands. Its connections stay open, and new ones are accepted and never answered.
func redisFrozen(ctx context.Context, e *episode) error {
	e.mind(e.replicas...)
	if err := e.redis.Pause(); err != nil {
		return err
	}
	frozen := now()
	took, err := e.flow(ctx, frozen, e.probes)
	if err != nil {
		return errors.Join(fmt.Errorf("with Redis frozen: %w", err), e.redis.Resume())
	}
	e.notef("with Redis frozen after %s", seconds(took))
	e.lasts(ctx, frozen, e.redisFrozen)
	e.unhindered(frozen)
	if err := e.redis.Resume(); err != nil {
		return err
	}
	return e.recovers(ctx, now(), e.replicas, func() bool { return e.busUp(ctx, e.replicas...) })
}

// replicaWithoutRedis takes Redis away from one replica: its link breaks off or swallows everything, by chance.
func replicaWithoutRedis(ctx context.Context, e *episode) error {
	r := e.replicas[e.random.IntN(len(e.replicas))]
	e.mind(r)
	how := "broken off"
	if e.random.IntN(2) == 0 {
		r.redis.cut()
	} else {
		how = "swallows"
		r.redis.swallow(out, in)
	}
	defer r.redis.heal()
	from := now()
	if _, err := e.flow(ctx, from, e.probesOf(r)); err != nil {
		return fmt.Errorf("without Redis: %w", err)
	}
	e.lasts(ctx, from, e.cutOff)
	if quiet := e.probesOf(r)[0].silence(from.happened, time.Now()); quiet > silenceLimit {
		e.exceeds("without Redis, no events for %s", seconds(quiet))
	}
	e.notef("the link %s", how)
	r.redis.heal()
	return e.recovers(ctx, now(), []*replica{r}, func() bool { return e.busUp(ctx, r) })
}

// replicaDropped makes one replica's link to Redis slow, and sends it so much that Redis runs out of patience and ends
// the connection.
func replicaDropped(ctx context.Context, e *episode) error {
	follower, err := e.someFollower(ctx)
	if err != nil {
		return err
	}
	reader, err := e.gather(ctx, "flood", 1, func(int) *replica { return follower })
	if err != nil {
		return err
	}
	defer reader.disperse()
	const limit = "client-output-buffer-limit"
	before, err := askRedis(ctx, e.redis.Addr(), "CONFIG", "GET", limit)
	if err != nil || len(before) != 2 {
		return fmt.Errorf("read Redis's limit: %q: %w", before, err)
	}
	if _, err := askRedis(ctx, e.redis.Addr(), "CONFIG", "SET", limit, "pubsub 262144 131072 1"); err != nil {
		return err
	}
	defer func() { // by then the context may be done
		_, _ = askRedis(context.WithoutCancel(ctx), e.redis.Addr(), "CONFIG", "SET", limit, before[1])
	}()
	e.mind(follower)
	follower.redis.slow(in, 100*time.Millisecond)
	defer follower.redis.heal()
	if err := e.sendMany(ctx, reader, e.flood/4, 4<<10); err != nil {
		return err
	}
	err = until(ctx, time.Minute, "Redis drops the slow replica", func() bool {
		clients, err := askRedis(ctx, e.redis.Addr(), "CLIENT", "LIST", "TYPE", "pubsub")
		return err == nil && len(clients) == 1 && strings.Count(clients[0], "\n") < len(e.replicas)
	})
	if err != nil {
		return err
	}
	follower.redis.heal()
	if err := e.recovers(ctx, now(), []*replica{follower}, func() bool { return e.busUp(ctx, follower) }); err != nil {
		return err
	}
	if _, err := reader.wholeAgain(ctx, time.Now()); err != nil {
		return err
	}
	reader.judge(e)
	return nil
}

// askRedis sends one command on a connection of its own, and returns the strings of the answer.
func askRedis(ctx context.Context, address string, command ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("ask Redis: %w", err)
	}
	defer conn.Close()
	if deadline, bounded := ctx.Deadline(); bounded {
		_ = conn.SetDeadline(deadline)
	}
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(conn, request.String()); err != nil {
		return nil, fmt.Errorf("ask Redis: %w", err)
	}
	answer, err := readRedis(bufio.NewReader(conn))
	if err != nil {
		return nil, fmt.Errorf("ask Redis %s: %w", strings.Join(command, " "), err)
	}
	return answer, nil
}

// readRedis reads one answer: a string of some kind, or an array of them.
func readRedis(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '+', ':':
		return []string{rest}, nil
	case '$':
		size, err := strconv.Atoi(rest)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("a string of %s bytes", rest)
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, err
		}
		return []string{string(text[:size])}, nil
	case '*':
		count, err := strconv.Atoi(rest)
		if err != nil {
			return nil, err
		}
		var all []string
		for range count {
			one, err := readRedis(r)
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		return all, nil
	default:
		return nil, errors.New(strings.TrimSpace(line))
	}
}
