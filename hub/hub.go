package hub

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// shardCount cuts the owners into parts that share no lock, so that delivery to one never waits for another.
	shardCount = 64
	// subscribeLimit is how long a new feed waits for its subscription.
	subscribeLimit = 5 * time.Second
)

// Hub is all that listens on this replica.
type Hub struct {
	bus     Bus
	log     Log
	logger  *slog.Logger
	metrics *Metrics
	seed    maphash.Seed
	shards  [shardCount]shard
	doubts  chan string   // causes to ask the log what is missing; one waiting is enough
	compare atomic.Bool   // the next time, every feed has to be compared with the log
	answers atomic.Uint64 // how often the log has answered, whoever asked
	news    chan struct{} // the log has become available or unavailable, and sessions have not been told

	mu        sync.Mutex
	name      string    // of the log, as Postgres last said; guarded by mu, as all below
	epoch     Epoch     // the highest seen in that log
	position  Position  // up to here nothing is missing: it is in the feeds, or they know that they lack it
	up        bool      // the bus carries
	vouched   bool      // marks may move position: what the bus lost before it was up has been asked for
	askedName time.Time // when a message of a log of another name last made us ask
	marked    time.Time // when a mark last came
	// unavailable is why the log cannot be read, for so long that clients are told; nil while it can.
	unavailable error
	refuseFrom  time.Time // while unavailable: new sessions are refused from then on
	known       bool      // the log has answered once, or is known to be unavailable
	tell        func(available bool)
	running     context.Context // nil before Run; done after it

	tasks sync.WaitGroup // what spawn has started
}

type shard struct {
	mu    sync.RWMutex
	feeds map[Owner]*feed // guarded by mu
}

// New returns a Hub that hears of events by bus and reads them in log.
func New(bus Bus, log Log, logger *slog.Logger, metrics *Metrics) *Hub {
	h := &Hub{
		bus: bus, logger: logger, metrics: metrics, seed: maphash.MakeSeed(),
		doubts: make(chan string, 1), news: make(chan struct{}, 1),
	}
	h.log = impatient{log: log, answers: &h.answers}
	for i := range h.shards {
		h.shards[i].feeds = make(map[Owner]*feed)
	}
	return h
}

// Run is the hub's whole life: it runs the bus, and looks for what the bus has lost, until ctx ends. It returns nil
// then, or the error of a bus that cannot go on.
func (h *Hub) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	h.mu.Lock()
	h.running = ctx
	h.mu.Unlock()
	group.Go(func() error { return h.bus.Run(ctx, h) })
	group.Go(func() error { h.watch(ctx); return nil })
	group.Go(func() error { h.guard(ctx); return nil })
	group.Go(func() error { h.herald(ctx); return nil })
	err := group.Wait()
	h.setUp(false) // also waits for a spawn under way, which may have seen h.running before it was done
	h.tasks.Wait()
	h.stopLingering()
	return err
}

// Options are what a session may ask for.
type Options struct {
	// Conflate leaves out events that a later one of the same subject makes needless, where the session is behind.
	Conflate bool
}

// Attach returns a new session of owner, once this replica is subscribed for it: whatever is published from then on,
// the session can have. wake is called, from any goroutine and also before Attach returns, when Next may have
// something; it must not block, and may call Next. It returns ErrUnavailable while the log cannot be read: where the log
// answers nothing rather than no, only after that has lasted.
func (h *Hub) Attach(ctx context.Context, owner Owner, wake func(), options Options) (*Session, error) {
	if h.refuses() {
		return nil, ErrUnavailable // at once: who waits for a timeout each time makes the outage longer
	}
	f, err := h.join(owner)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.ready:
		err = f.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil && h.refuses() {
		err = ErrUnavailable // it became so while this waited, and those who came before have been told
	}
	if err != nil {
		h.release(f)
		return nil, err
	}
	s := &Session{hub: h, feed: f, wake: wake, conflate: options.Conflate}
	f.add(s)
	h.metrics.sessions.Inc()
	return s, nil
}

// join returns the feed of owner, and makes it where there is none. release undoes it.
func (h *Hub) join(owner Owner) (*feed, error) {
	shard := h.shard(owner)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	f := shard.feeds[owner]
	if f == nil {
		f = newFeed(owner)
		if !h.spawn(func(ctx context.Context) { h.subscribe(ctx, f) }) {
			return nil, ErrClosed
		}
		shard.feeds[owner] = f
		h.metrics.feeds.Inc()
	}
	if f.linger != nil {
		f.linger.Stop()
		f.linger = nil
	}
	f.refs++
	return f, nil
}

func (h *Hub) subscribe(ctx context.Context, f *feed) {
	limited, cancel := context.WithTimeout(ctx, subscribeLimit)
	defer cancel()
	f.err = h.bus.Subscribe(limited, f.owner)
	if f.err != nil && ctx.Err() != nil {
		f.err = ErrClosed
	}
	close(f.ready)
	shard := h.shard(f.owner)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.feeds[f.owner] == nil {
		h.bus.Unsubscribe(f.owner) // everyone left, and unsubscribed, before this goroutine got to subscribe
	}
}

// release lets go of a feed. The last to do so leaves it to linger, or drops it if it never came to be.
func (h *Hub) release(f *feed) {
	shard := h.shard(f.owner)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if f.refs--; f.refs > 0 || shard.feeds[f.owner] != f {
		return
	}
	select {
	case <-f.ready:
		if f.err == nil && h.isRunning() {
			f.linger = time.AfterFunc(lingerFor, func() { h.drop(f) })
			return
		}
	default: // everyone left before the subscription was confirmed
	}
	h.remove(shard, f)
}

// drop ends a feed that nobody came back to.
func (h *Hub) drop(f *feed) {
	shard := h.shard(f.owner)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if f.refs == 0 && shard.feeds[f.owner] == f {
		h.remove(shard, f)
	}
}

// remove takes a feed out. The shard's lock is held, so that the owner's next feed subscribes after this.
func (h *Hub) remove(shard *shard, f *feed) {
	delete(shard.feeds, f.owner)
	h.metrics.feeds.Dec()
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	h.bus.Unsubscribe(f.owner)
}

func (h *Hub) stopLingering() {
	for i := range h.shards {
		shard := &h.shards[i]
		shard.mu.Lock()
		for _, f := range shard.feeds {
			if f.linger != nil {
				f.linger.Stop()
			}
		}
		shard.mu.Unlock()
	}
}

func (h *Hub) shard(owner Owner) *shard {
	return &h.shards[maphash.String(h.seed, string(owner))%shardCount]
}

func (h *Hub) lookup(owner Owner) *feed {
	shard := h.shard(owner)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	return shard.feeds[owner]
}

// feeds returns all feeds there are now.
func (h *Hub) feeds() []*feed {
	var all []*feed
	for i := range h.shards {
		shard := &h.shards[i]
		shard.mu.RLock()
		for _, f := range shard.feeds {
			all = append(all, f)
		}
		shard.mu.RUnlock()
	}
	return all
}

// spawn runs task on a goroutine that Run waits for. It reports false, and runs nothing, outside of Run.
func (h *Hub) spawn(task func(context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.alive() {
		return false
	}
	h.tasks.Add(1)
	go func(ctx context.Context) { // Run waits for its end
		defer h.tasks.Done()
		task(ctx)
	}(h.running)
	return true
}

func (h *Hub) isRunning() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alive()
}

// alive tells whether Run is under way. h.mu is held.
func (h *Hub) alive() bool { return h.running != nil && h.running.Err() == nil }

func (h *Hub) reset(reason Reason) *ErrReset {
	h.metrics.resets.WithLabelValues(string(reason)).Inc()
	return &ErrReset{Reason: reason}
}

// failed notes that the log could not be read. What failed is tried again, so this is all that is done about it.
func (h *Hub) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		h.metrics.logErrors.Inc()
		h.logger.DebugContext(ctx, "the log cannot be read, trying again", "err", err)
	}
}

// sleep waits, or returns ctx's error when it ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
