package redisbus_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// ticketsAt returns the tickets of a replica.
func ticketsAt(t *testing.T, url string, prepare ...func(*redisbus.Config)) *redisbus.Tickets {
	t.Helper()
	cfg := redisbus.Config{URL: url, Key: secret}
	for _, p := range prepare {
		p(&cfg)
	}
	tickets, err := redisbus.NewTickets(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tickets.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return tickets
}

func put(t *testing.T, tickets *redisbus.Tickets, id, value string) {
	t.Helper()
	if err := tickets.Put(t.Context(), id, []byte(value), time.Minute); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

// takes checks what the next Take gives.
func takes(t *testing.T, tickets *redisbus.Tickets, id, want string) {
	t.Helper()
	got, err := tickets.Take(t.Context(), id)
	if err != nil || string(got) != want || (got == nil) != (want == "") {
		t.Errorf("Take returned %q and %v, want %q", got, err, want)
	}
}

// nameOf is the name of a ticket in Redis, as it is documented.
func nameOf(id string) string { return fmt.Sprintf("reelay:ticket:%x", sha256.Sum256([]byte(id))) }

func TestTickets_TakenOnceOnAnyReplica(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	one, two := ticketsAt(t, server.URL()), ticketsAt(t, server.SocketURL())
	put(t, one, "first", "alice")
	put(t, one, "second", "bob")
	takes(t, two, "first", "alice")
	takes(t, one, "first", "")
	takes(t, two, "first", "")
	takes(t, one, "second", "bob")
	takes(t, one, "never", "")
	takes(t, one, "", "")
	if err := one.Put(t.Context(), "empty", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err := two.Take(t.Context(), "empty"); got == nil || len(got) != 0 || err != nil {
		t.Errorf("Take of an empty value returned %v and %v", got, err)
	}
}

// Of fifty who come at once with one ticket, through two replicas, one gets in.
func TestTickets_OneOfManyGetsIt(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	replicas := []*redisbus.Tickets{ticketsAt(t, server.URL()), ticketsAt(t, server.URL())}
	for round := range 20 {
		id := fmt.Sprint("ticket ", round)
		put(t, replicas[0], id, "alice")
		var got atomic.Int32
		var begin, all sync.WaitGroup
		begin.Add(1)
		for n := range 50 {
			all.Go(func() {
				begin.Wait()
				value, err := replicas[n%2].Take(t.Context(), id)
				if err != nil || value != nil && string(value) != "alice" {
					t.Errorf("Take returned %q and %v", value, err)
				}
				if value != nil {
					got.Add(1)
				}
			})
		}
		begin.Done()
		all.Wait()
		if n := got.Load(); n != 1 {
			t.Fatalf("%d of 50 got the ticket, want 1", n)
		}
	}
}

func TestTickets_Expire(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	tickets, client := ticketsAt(t, server.URL()), admin(t, server.URL())
	if err := tickets.Put(t.Context(), "long", []byte("alice"), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if left, err := client.PTTL(t.Context(), nameOf("long")).Result(); err != nil || left > 30*time.Second || left < 20*time.Second {
		t.Errorf("a ticket of 30s lasts %s (%v)", left, err)
	}
	if err := tickets.Put(t.Context(), "short", []byte("alice"), 1500*time.Microsecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ticket is gone from Redis", func() bool {
		n, err := client.Exists(t.Context(), nameOf("short")).Result()
		return err == nil && n == 0
	})
	takes(t, tickets, "short", "")
	takes(t, tickets, "long", "alice")
}

// Who reads Redis learns no id and no value; who writes to it makes none that is believed.
func TestTickets_AreSealed(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	tickets, client := ticketsAt(t, server.URL()), admin(t, server.URL())
	seal := func(id string) []byte {
		put(t, tickets, id, "the value for alice")
		sealed, err := client.Get(t.Context(), nameOf(id)).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	sealed := seal("an id that nobody guesses")
	if bytes.Contains(sealed, []byte("alice")) || bytes.Contains(sealed, []byte("guesses")) {
		t.Errorf("Redis has %q", sealed)
	}
	if again := seal("an id that nobody guesses"); bytes.Equal(again, sealed) {
		t.Error("one value is sealed alike twice")
	}
	other := ticketsAt(t, server.URL(), func(cfg *redisbus.Config) {
		cfg.Key = func(context.Context) ([]byte, error) { return []byte("what another replica was given"), nil }
	})
	forgeries := map[string]func(id string) []byte{
		"nothing":          func(string) []byte { return nil },
		"plain text":       func(string) []byte { return []byte("alice") },
		"another ticket's": func(string) []byte { return seal("another id") },
		"cut off":          func(id string) []byte { s := seal(id); return s[:len(s)-1] },
		"sealed with another secret": func(id string) []byte {
			put(t, other, id, "the value for alice")
			s, _ := client.Get(t.Context(), nameOf(id)).Bytes()
			return s
		},
	}
	for i := range sealed {
		forgeries[fmt.Sprint("byte changed: ", i)] = func(id string) []byte { s := seal(id); s[i] ^= 1; return s }
	}
	for name, forge := range forgeries {
		if err := client.Set(t.Context(), nameOf("id"), forge("id"), time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		value, err := tickets.Take(t.Context(), "id")
		if value != nil || !errors.Is(err, redisbus.ErrForgedTicket) || errors.Is(err, redisbus.ErrUnavailable) {
			t.Errorf("%s: Take returned %q and %v, want ErrForgedTicket", name, value, err)
		}
		takes(t, tickets, "id", "")
	}
	if err := client.LPush(t.Context(), nameOf("id"), "alice").Err(); err != nil {
		t.Fatal(err)
	}
	if value, err := tickets.Take(t.Context(), "id"); value != nil || !errors.Is(err, redisbus.ErrForgedTicket) {
		t.Errorf("a list: Take returned %q and %v, want ErrForgedTicket", value, err)
	}
	seal("good")
	takes(t, tickets, "good", "the value for alice")
}

// Two deployments on one Redis do not take each other's tickets.
func TestTickets_PrefixSeparates(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	here := ticketsAt(t, server.URL())
	there := ticketsAt(t, server.URL(), func(cfg *redisbus.Config) { cfg.Prefix = "other" })
	put(t, here, "id", "alice")
	takes(t, there, "id", "")
	takes(t, here, "id", "alice")
}

func TestTickets_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]redisbus.Config{
		"no key": {URL: "redis://localhost"}, "prefix": {URL: "redis://localhost", Key: secret, Prefix: "{x}"},
		"URL": {URL: "redis://user:hunter2@host:port/0", Key: secret},
	} {
		if _, err := redisbus.NewTickets(cfg); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: NewTickets returned %v", name, err)
		}
	}
	tickets := ticketsAt(t, redistest.New(t).URL())
	for name, err := range map[string]error{
		"large":    tickets.Put(t.Context(), "id", make([]byte, 64<<10+1), time.Minute),
		"no id":    tickets.Put(t.Context(), "", nil, time.Minute),
		"no time":  tickets.Put(t.Context(), "id", nil, 0),
		"for ever": tickets.Put(t.Context(), "id", nil, -1),
	} {
		if err == nil || errors.Is(err, redisbus.ErrUnavailable) {
			t.Errorf("%s: Put returned %v, want an error that is no matter of time", name, err)
		}
	}
}
