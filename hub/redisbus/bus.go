package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/reelay/reelay/hub"
)

const (
	// startPatience is how long after the start the bus may be neither up nor down.
	startPatience = time.Second
	// minPause and maxPause bound the wait before the next connection. It is random between minPause and a limit that
	// doubles up to maxPause, since all replicas lose Redis at the same moment.
	minPause = 50 * time.Millisecond
	maxPause = time.Second
	// strangeEvery is how often a warning of strange signatures is logged: there may be as many as there are messages.
	strangeEvery = time.Minute
)

// Config says which Redis, and how to tell about it.
type Config struct {
	// URL is redis://, rediss:// or unix://. Retries and timeouts that it asks for are ignored.
	URL string
	// Prefix begins the names of all channels; default reelay. Deployments that share a Redis need different ones:
	// pub/sub does not care for database numbers.
	Prefix string
	// Key returns the secret that all replicas share, 16 bytes at least and the same whenever it is asked for. It must be
	// there. What goes over Redis is signed with a key made of it, so that whoever can write to Redis can make up
	// nothing. It is asked for until it answers, and not again; until then the bus is down. It must return when ctx ends,
	// and what it returns as an error is logged.
	Key func(ctx context.Context) ([]byte, error)
	// Log is told when the bus goes up and down; nil means nobody is.
	Log *slog.Logger
	// Metrics is where reelay_bus_… are registered; nil means nowhere.
	Metrics prometheus.Registerer
}

// Bus is a hub.Bus over Redis. See the package's documentation.
type Bus struct {
	log     *slog.Logger
	options *redis.Options
	names   names
	metrics *metrics
	key     *keeper
	sending publisher
	heard   heard          // belongs to the reader
	strange rate.Sometimes // limits the warnings of strange signatures

	mu      sync.Mutex
	topics  map[hub.Owner]*topic // guarded by mu
	control topic                // guarded by mu
	dirty   []*topic             // guarded by mu; what the writer has to look at
	link    *receiving           // guarded by mu; nil while there is no connection
	up      bool                 // guarded by mu
	owed    int                  // guarded by mu; how many topics have owed set
}

var _ hub.Bus = (*Bus)(nil)

// New returns a bus. It connects to nothing before Run.
func New(cfg Config) (*Bus, error) {
	options, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bus{
		log:     cfg.Log,
		options: single(options),
		names:   newNames(cfg.Prefix),
		key:     newKeeper(cfg.Key, forMessages),
		topics:  make(map[hub.Owner]*topic),
		heard:   make(heard),
		strange: rate.Sometimes{Interval: strangeEvery},
		sending: publisher{turn: make(chan struct{}, 1)},
	}
	if b.metrics, err = newMetrics(cfg.Metrics, b.subscriptions); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Bus) subscriptions() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(len(b.topics))
}

// Run implements hub.Bus. It never gives up: whatever keeps it from Redis may pass. Publish works while it runs. When ctx
// ends the receiver is told nothing more.
func (b *Bus) Run(ctx context.Context, receiver hub.Receiver) error {
	b.sending.open()
	defer b.sending.close()
	late := time.NewTimer(startPatience)
	defer late.Stop()
	out := &outlet{Receiver: receiver, bus: b, late: late.C}
	defer b.metrics.up.Set(0)
	limit := minPause
	for ctx.Err() == nil {
		cause := b.carry(ctx, out)
		if ctx.Err() != nil {
			break
		}
		if out.is == isUp {
			limit = minPause
		}
		out.down(ctx, cause)
		limit = min(2*limit, maxPause)
		pause(ctx, minPause+rand.N(limit-minPause))
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// outlet is the receiver, and what it has been told of the bus. It belongs to Run's goroutine.
type outlet struct {
	hub.Receiver
	bus  *Bus
	is   condition
	late <-chan time.Time // fires when the receiver should have been told something
}

// condition is what the receiver was last told.
type condition int

const (
	isStarting condition = iota // nothing yet
	isUp
	isDown
)

func (o *outlet) up(ctx context.Context) {
	o.is = isUp
	o.bus.metrics.up.Set(1)
	o.bus.log.InfoContext(ctx, "bus up")
	o.Up()
}

// overdue tells the receiver that the bus is not up, if it has been told nothing since the start.
func (o *outlet) overdue(ctx context.Context, reason error) {
	if o.is == isStarting {
		o.down(ctx, reason)
	}
}

// down tells the receiver, once per outage.
func (o *outlet) down(ctx context.Context, reason error) {
	if o.is == isDown {
		o.bus.log.DebugContext(ctx, "bus still down", "err", reason)
		return
	}
	if o.is == isStarting && errors.Is(reason, errUnheard) {
		o.bus.log.InfoContext(ctx, "bus not up yet", "err", reason)
	} else {
		o.bus.log.WarnContext(ctx, "bus down", "err", reason)
	}
	o.is = isDown
	o.bus.metrics.up.Set(0)
	o.bus.metrics.outages.Inc()
	o.Down(fmt.Errorf("bus: %w", reason))
}
