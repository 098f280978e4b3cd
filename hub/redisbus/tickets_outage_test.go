package redisbus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// ticketLimit is what one use of Tickets may take at most: a second, and room for a busy machine.
const ticketLimit = 1500 * time.Millisecond

// away checks that Put and Take fail in time, and say that it is for now, and nothing else.
func away(t *testing.T, tickets *redisbus.Tickets) {
	t.Helper()
	const id = "an id that is in no error"
	for what, use := range map[string]func() error{
		"Put":  func() error { return tickets.Put(t.Context(), id, []byte("the value"), time.Minute) },
		"Take": func() error { _, err := tickets.Take(t.Context(), id); return err },
	} {
		within(t, ticketLimit, what, func() {
			err := use()
			if !errors.Is(err, redisbus.ErrUnavailable) {
				t.Errorf("%s returned %v, want ErrUnavailable", what, err)
			} else if text := err.Error(); strings.Contains(text, id) || strings.Contains(text, "the value") ||
				strings.Contains(text, nameOf(id)[len("reelay:ticket:"):]) || strings.Contains(text, "hunter2") {
				t.Errorf("%s: the error tells too much: %v", what, err)
			}
		})
	}
}

func TestTickets_RedisKilledAndRestarted(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	tickets := ticketsAt(t, server.URL())
	put(t, tickets, "lost", "alice")
	server.Kill()
	away(t, tickets)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	takes(t, tickets, "lost", "") // at once: no connection of before is used
	put(t, tickets, "new", "alice")
	takes(t, tickets, "new", "alice")
}

// A frozen Redis costs each of many clients a second at most. A ticket that was asked for meanwhile is not asked for
// again behind the client's back.
func TestTickets_RedisFrozen(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	tickets := ticketsAt(t, server.URL())
	put(t, tickets, "kept", "alice")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 100 { // more than there are connections
		all.Go(func() { away(t, tickets) })
	}
	all.Wait()
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Redis answers", func() bool {
		return tickets.Put(t.Context(), "new", []byte("bob"), time.Minute) == nil
	})
	takes(t, tickets, "kept", "alice")
	takes(t, tickets, "new", "bob")
}

// The answer to a Take is lost: the error comes from the one attempt there is.
func TestTickets_TakeIsNotRepeated(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	hole := newProxy(t, server.Addr())
	tickets, client := ticketsAt(t, hole.url()), admin(t, server.URL())
	put(t, tickets, "id", "alice")
	trapped := hole.holdAt("getdel")
	done := make(chan error, 1)
	go func() {
		_, err := tickets.Take(context.Background(), "id")
		done <- err
	}()
	<-trapped
	if err := <-done; !errors.Is(err, redisbus.ErrUnavailable) {
		t.Errorf("Take returned %v, want ErrUnavailable", err)
	}
	put(t, tickets, "other", "bob") // over another connection, which works: so a second attempt would have, too
	if n, err := client.Exists(t.Context(), nameOf("id")).Result(); err != nil || n != 1 {
		t.Errorf("the ticket was taken by a second attempt (%d, %v)", n, err)
	}
	hole.release()
}

// Redis before 6.2 cannot take a ticket once; the error says what to do, and the ticket stays.
func TestTickets_OldRedis(t *testing.T) {
	t.Parallel()
	server := redistest.NewWith(t, map[string]string{"rename-command GETDEL": ""}) // as if it had none
	tickets := ticketsAt(t, server.URL())
	put(t, tickets, "an id of mine", "alice")
	value, err := tickets.Take(t.Context(), "an id of mine")
	if value != nil || !errors.Is(err, redisbus.ErrUnavailable) || !strings.Contains(err.Error(), "Redis 6.2 or newer") {
		t.Errorf("Take returned %q and %v, want an error that names the version", value, err)
	}
	if strings.Contains(err.Error(), nameOf("an id of mine")) {
		t.Errorf("the error names the ticket: %v", err)
	}
}

// Without the secret nothing is put and, what matters, nothing is taken. However many come, it is asked for in turn.
func TestTickets_WithoutTheSecret(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	var there atomic.Bool
	var asking, most atomic.Int32
	tickets := ticketsAt(t, server.URL(), func(cfg *redisbus.Config) {
		cfg.Key = func(context.Context) ([]byte, error) {
			defer asking.Add(-1)
			if n := asking.Add(1); n > 1 {
				most.Store(n)
			}
			<-time.After(5 * time.Millisecond) // as a database takes, so that those who ask at once meet
			if !there.Load() {
				return nil, errors.New("the database is away")
			}
			return []byte(sharedSecret), nil
		}
	})
	put(t, ticketsAt(t, server.URL()), "id", "alice")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { away(t, tickets) })
	}
	all.Wait()
	there.Store(true)
	eventually(t, "the secret is asked for again", func() bool {
		return tickets.Put(t.Context(), "new", nil, time.Minute) == nil
	})
	takes(t, tickets, "id", "alice")
	if most.Load() > 0 {
		t.Errorf("the secret was asked for by %d at once", most.Load())
	}
	// One that never comes costs a client a second.
	stuck := ticketsAt(t, server.URL(), func(cfg *redisbus.Config) {
		cfg.Key = func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
	})
	within(t, ticketLimit, "Take without the secret", func() {
		if _, err := stuck.Take(t.Context(), "id"); !errors.Is(err, redisbus.ErrUnavailable) {
			t.Errorf("Take returned %v, want ErrUnavailable", err)
		}
	})
	for range 20 {
		all.Go(func() { away(t, stuck) })
	}
	all.Wait()
}
