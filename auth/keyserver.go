package auth

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchInterval is the least time from the start of one fetch to that of the next, whatever asks for it. It is what a
	// stranger who sends random kids can make us do to the key server.
	fetchInterval = 5 * time.Second
	// retryJitter is added to it after a fetch that failed, so that the replicas do not ask together. With fetchInterval
	// and a fetch that the outage makes hang, new keys are known within 10 s after the server is back.
	retryJitter = time.Second
	// defaultRefresh is how old a set grows while nobody sends a key that is not in it.
	defaultRefresh = 5 * time.Minute
	// minRefresh keeps a wrong setting from hammering the key server.
	minRefresh = 10 * time.Second
	// maxWait is how long a token with an unknown kid waits for the fetch under way. Key servers answer in a tenth of it.
	maxWait = 2 * time.Second
	// maxWaiters bounds how many tokens wait. The others are refused at once, and good ones among them come again.
	maxWaiters = 64
	// reportEvery is how often a failure that lasts is logged.
	reportEvery = 5 * time.Minute
)

// keyServer holds the keys of a JWKS, and gets new ones.
//
// One goroutine fetches, in run, so there is never more than one fetch under way. Tokens read the set by an atomic
// pointer, and never wait for a fetch that is not about to bring their key.
type keyServer struct {
	fetcher *fetcher
	// fixed are the keys of the configuration. They are part of every set.
	fixed   keyset
	refresh time.Duration
	log     *slog.Logger
	metrics *Metrics

	set     atomic.Pointer[keyset] // fixed and fetched keys; nil before the first good fetch
	waiters chan struct{}          // holds a place for each token that waits
	wake    chan struct{}          // tells run that due has changed; one is enough

	mu sync.Mutex
	// flight is closed when the fetch under way, or about to start, is over; nil if there is none. Guarded by mu.
	flight chan struct{}
	// started is when the last fetch started; next is when the next one starts if nobody asks. Guarded by mu.
	started, next time.Time
	// wanted says that somebody asked since the last fetch started. Guarded by mu.
	wanted bool
	// ended says that run is over, and no fetch will come. Guarded by mu.
	ended bool

	failure  string       // of the last fetch; "" after a good one. Only run's goroutine touches it, and the next two.
	reported time.Time    // when failure was last logged
	skipped  []skippedKey // which keys were last logged as not used
}

func newKeyServer(fetcher *fetcher, fixed keyset, refresh time.Duration, log *slog.Logger, metrics *Metrics) *keyServer {
	return &keyServer{
		fetcher: fetcher, fixed: fixed, refresh: refresh, log: log.With("jwks_host", fetcher.url.Host), metrics: metrics,
		waiters: make(chan struct{}, maxWaiters),
		wake:    make(chan struct{}, 1),
		flight:  make(chan struct{}), // run begins with a fetch
	}
}

// verify is keyset.verify with the keys known now and, where the token may be signed with one that is not, with those
// known after the fetch that is under way or can start at once. It waits up to maxWait, and mostly not at all.
func (s *keyServer) verify(t parsed) error {
	known := s.keys()
	err := known.verify(t)
	if err == nil || !publicAlgorithms[t.alg] || known.names(t.kid) {
		// Of what a known key did not sign, no fetch brings another opinion.
		return err
	}
	if s.wait(s.ask()) {
		err = s.keys().verify(t)
	}
	if err != nil && s.set.Load() == nil {
		return invalid(ruleNoKeys)
	}
	return err
}

// keys returns the keys known now.
func (s *keyServer) keys() keyset {
	if set := s.set.Load(); set != nil {
		return *set
	}
	return s.fixed
}

// ask sees to it that a fetch starts as soon as fetchInterval allows. If one is under way or starts at once, the channel
// returned is closed when it is over; otherwise it is nil.
func (s *keyServer) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.flight != nil:
		return s.flight
	case s.ended || s.wanted:
		return nil
	case time.Since(s.started) < fetchInterval:
		s.wanted = true
		s.nudge()
		return nil
	}
	s.flight = make(chan struct{})
	s.nudge()
	return s.flight
}

// nudge makes run look at due again.
func (s *keyServer) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it has not yet looked since the last time
	}
}

// wait waits for the end of flight and reports whether it came. With too many waiting already it does not begin.
func (s *keyServer) wait(flight <-chan struct{}) bool {
	if flight == nil {
		return false
	}
	select {
	case s.waiters <- struct{}{}:
		defer func() { <-s.waiters }()
	default:
		return false
	}
	timeout := time.NewTimer(maxWait)
	defer timeout.Stop()
	select {
	case <-flight:
		return true
	case <-timeout.C:
		return false
	}
}

// run fetches at once and from then on when it is due, until ctx ends.
func (s *keyServer) run(ctx context.Context) {
	defer s.end()
	for {
		if now := time.Now(); !now.Before(s.due()) {
			_ = s.once(ctx) // which has logged it
		}
		timer := time.NewTimer(time.Until(s.due()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// due is when the next fetch starts.
func (s *keyServer) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch soonest := s.started.Add(fetchInterval); {
	case s.flight != nil:
		return s.started // promised to start at once
	case s.wanted && soonest.Before(s.next):
		return soonest
	}
	return s.next
}

// once fetches and takes what came. The error is a *fetchError.
func (s *keyServer) once(ctx context.Context) error {
	s.mu.Lock()
	if s.flight == nil {
		s.flight = make(chan struct{})
	}
	flight := s.flight
	s.started, s.wanted = time.Now(), false
	started := s.started
	s.mu.Unlock()

	keys, skipped, err := s.fetcher.fetch(ctx)
	if err == nil {
		s.take(ctx, keys)
	}
	s.report(ctx, skipped, err)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = started.Add(fetchInterval + jitter(retryJitter))
	if err == nil {
		s.next = started.Add(s.refresh - s.refresh/10 + jitter(s.refresh/5))
	}
	s.flight = nil
	close(flight)
	return err
}

// fetchOnce is once for who does not run, and ends what run would have ended.
func (s *keyServer) fetchOnce(ctx context.Context) error {
	defer s.end()
	return s.once(ctx)
}

// end lets those go who wait for a fetch that will not come.
func (s *keyServer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.flight != nil {
		close(s.flight)
		s.flight = nil
	}
}

// take makes keys the ones that tokens are checked with. Those that are not among them any more are dropped.
func (s *keyServer) take(ctx context.Context, keys keyset) {
	var before keyset
	if set := s.set.Load(); set != nil {
		before = (*set)[len(s.fixed):]
	}
	now := slices.Concat(s.fixed, keys)
	s.set.Store(&now)
	added, dropped := lacking(keys, before), lacking(before, keys)
	if len(added)+len(dropped) > 0 {
		s.log.InfoContext(ctx, "keys of the key server taken", "keys", len(keys), "added", added, "dropped", dropped)
	}
	s.metrics.taken(len(keys))
}

// lacking returns the ids of the keys that are in s and not in other.
func lacking(s, other keyset) []string {
	type identity struct{ id, print string }
	known := make(map[identity]bool, len(other))
	for _, k := range other {
		known[identity{k.id, k.print}] = true
	}
	var ids []string
	for _, k := range s {
		if !known[identity{k.id, k.print}] {
			ids = append(ids, shorten(k.id))
		}
	}
	return ids
}

// report counts a fetch, and logs what an operator should know once and not each time.
func (s *keyServer) report(ctx context.Context, skipped []skippedKey, err error) {
	if err == nil {
		s.metrics.fetched(outcomeOK)
		if s.failure != "" {
			s.log.InfoContext(ctx, "the key server answers again")
		}
		s.failure = ""
		s.reportSkipped(ctx, skipped)
		return
	}
	if ctx.Err() != nil {
		return // it is we who left
	}
	s.metrics.fetched(outcomeOf(err))
	text := err.Error()
	if now := time.Now(); text != s.failure || now.Sub(s.reported) >= reportEvery {
		s.failure, s.reported = text, now
		const message = "the key server brings no keys, and is asked again every few seconds"
		if s.set.Load() == nil {
			s.log.WarnContext(ctx, message, "err", err, "meanwhile", "tokens are refused until it does")
		} else {
			s.log.WarnContext(ctx, message, "err", err, "meanwhile", "the keys known so far stay good")
		}
	}
}

// reportSkipped logs which keys of the set are not used, when that has changed.
func (s *keyServer) reportSkipped(ctx context.Context, skipped []skippedKey) {
	if slices.Equal(skipped, s.skipped) {
		return
	}
	s.skipped = skipped
	for _, k := range skipped {
		s.log.WarnContext(ctx, "a key of the key server is not used", "kid", shorten(k.id), "reason", k.reason)
	}
}

// shorten keeps a kid, which a key server chooses, from filling the log.
func shorten(id string) string {
	const enough = 64
	if len(id) > enough {
		return id[:enough] + "..."
	}
	return id
}

// jitter returns a part of d by chance.
func jitter(d time.Duration) time.Duration {
	return rand.N(max(d, 1)) //nolint:gosec // it spreads load, and keeps no secret
}
