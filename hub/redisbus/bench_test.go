package redisbus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/hub/redisbus"
	"github.com/reelay/reelay/hub/redisbus/redistest"
)

// counter is a hub.Receiver that only waits for marks.
type counter struct {
	mu   sync.Mutex
	head hub.Position
	up   bool
	cond *sync.Cond
}

func newCounter() *counter {
	c := new(counter)
	c.cond = sync.NewCond(&c.mu)
	return c
}

func (c *counter) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.cond.Broadcast()
}

func (c *counter) await(is func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !is() {
		c.cond.Wait()
	}
}

func (c *counter) Deliver(string, hub.Epoch, *hub.Event) {}
func (c *counter) Advance(m hub.Mark)                    { c.set(func() { c.head = m.Head }) }
func (c *counter) Up()                                   { c.set(func() { c.up = true }) }
func (c *counter) Down(error)                            {}

// BenchmarkPublish publishes batches to 100 owners, all of them subscribed by the same bus, and waits for each batch's
// mark. So an op is an event, there and back.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			bus, received := runForBenchmark(b, redistest.New(b).URL())
			batch := hub.Batch{Log: "k3f9a2bq", Epoch: 1}
			for i := range size {
				batch.Events = append(batch.Events, &hub.Event{
					Owner: hub.Owner(fmt.Sprintf("user-%d", i%100)), OutboxID: 1, Type: "video.updated", Subject: "vid_9",
					Data: json.RawMessage(`{"processing_status":"ready","previous":{"processing_status":"processing"}}`),
					Time: time.Unix(1700000000, 0),
				})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += size {
				batch.From = batch.Head
				for _, e := range batch.Events {
					batch.Head++
					e.Position, e.Sequence = batch.Head, hub.Sequence(batch.Head)
				}
				if err := bus.Publish(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
				received.await(func() bool { return received.head >= batch.Head })
			}
		})
	}
}

// BenchmarkSubscribe subscribes one bus to the channels of 50,000 owners whose names are UUIDs: all that is one op. It
// reports what Redis keeps of each. (How many there are matters: Redis doubles its tables of channels.)
func BenchmarkSubscribe(b *testing.B) {
	const channels = 50_000
	url := redistest.New(b).URL()
	bus, _ := runForBenchmark(b, url)
	client := admin(b, url)
	owner := func(i int) hub.Owner { return hub.Owner(fmt.Sprintf("6ba7b810-9dad-41d1-80b4-%012d", i)) }
	before := memory(b, client)
	var used int64
	for b.Loop() {
		var all sync.WaitGroup
		for i := range channels {
			all.Go(func() {
				if err := bus.Subscribe(b.Context(), owner(i)); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		b.StopTimer()
		used = memory(b, client) - before
		for i := range channels {
			bus.Unsubscribe(owner(i))
		}
		// Redis answers in order: when it has confirmed this one, the others are gone.
		if err := bus.Subscribe(b.Context(), "the last"); err != nil {
			b.Fatal(err)
		}
		bus.Unsubscribe("the last")
		b.StartTimer()
	}
	b.ReportMetric(float64(used)/channels, "redis-B/channel")
}

// memory returns how many bytes Redis has allocated.
func memory(b *testing.B, client *redis.Client) int64 {
	b.Helper()
	info, err := client.InfoMap(b.Context(), "memory").Result()
	if err != nil {
		b.Fatal(err)
	}
	used, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return used
}

func runForBenchmark(b *testing.B, url string) (*redisbus.Bus, *counter) {
	b.Helper()
	bus, err := redisbus.New(redisbus.Config{URL: url, Key: secret})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	received, ended := newCounter(), make(chan struct{})
	go func() { defer close(ended); _ = bus.Run(ctx, received) }()
	b.Cleanup(func() { cancel(); <-ended })
	for i := range 100 {
		if err := bus.Subscribe(ctx, hub.Owner(fmt.Sprintf("user-%d", i))); err != nil {
			b.Fatal(err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for up := false; !up; <-tick.C {
		_ = bus.Publish(ctx, hub.Batch{Log: "k3f9a2bq", Epoch: 1})
		received.set(func() { up = received.up })
	}
	return bus, received
}
