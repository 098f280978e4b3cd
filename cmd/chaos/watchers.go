package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

const (
	// probeType is the type of the events that measure; see prober.
	probeType = "chaos.probe"
	// lateType is the type of an event whose transaction commits late.
	lateType = "chaos.late"
	// markerType is the type of the events that only tell how far a client has come. They are in nobody's log.
	markerType = "chaos.marker"
)

// watcher is one client: it keeps what it received, and the state that this amounts to. What it received is compared
// with the truth now and then, and forgotten.
type watcher struct {
	user    string
	name    string
	replica *replica // that it sticks to; nil for one that goes wherever it can
	client  *client.Client

	mu         sync.Mutex
	events     map[string][]item // subject → items, since the last snapshot or comparison; guarded by mu, as all below
	base       map[string]int64  // the last snapshot; nil if none came since the last comparison
	snapshotAt time.Time
	state      map[string]int64 // video → version
	started    bool             // a snapshot has come
	paging     map[string]int64 // pages of the snapshot that is coming
	log        string           // of the last event or snapshot
	sequence   int64            // of the last event or snapshot
	received   int
	resets     int
	faults     []string        // what must never happen
	markers    map[string]bool // received since the last comparison
	live       bool
	news       []news    // of this and earlier connections, since forgetArrivals
	arrivals   []arrival // of probes
	late       map[string]time.Time
}

// news is that the session was told that events cannot be read for now, or that they can.
type news struct {
	available bool
	at        time.Time
}

// arrival is a probe that reached a session.
type arrival struct {
	number int64
	at     time.Time
}

func newWatcher(user, name string, token func(context.Context) (string, error), dial dialer, handshake time.Duration) (*watcher, error) {
	w := &watcher{
		user: user, name: name, events: make(map[string][]item), state: make(map[string]int64),
		markers: make(map[string]bool), late: make(map[string]time.Time),
	}
	c, err := client.New(client.Config{
		URL: "http://replica", Token: token, OnState: w.changed,
		Dialer: &websocket.Dialer{NetDialContext: dial, HandshakeTimeout: handshake},
	})
	w.client = c
	return w, err
}

func (w *watcher) run(ctx context.Context) error {
	if err := w.client.Run(ctx, w.handle); err != nil {
		return fmt.Errorf("client %s: %w", w.name, err)
	}
	return nil
}

func (w *watcher) changed(status client.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = status.State == client.Live
}

// handle takes one frame. It never fails: what is wrong with it is noted.
func (w *watcher) handle(_ context.Context, f client.Frame) error {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f.Type == client.TypeSnapshot:
		w.snapshot(f, now)
		return nil
	case f.Type == client.TypeReset:
		w.resets++
		return nil
	case f.Type == client.TypeError:
		w.told(f, now)
		return nil
	case f.Type == client.TypeReady && !w.available():
		w.news = append(w.news, news{true, now}) // another connection, and who is let in is served
		return nil
	case f.Own():
		return nil
	}
	w.received++
	w.follow(f.ID)
	switch f.Type {
	case markerType:
		w.markers[f.Subject] = true
		return nil
	case lateType:
		w.late[f.Subject] = now
	}
	w.event(f, now)
	return nil
}

// told notes an error that concerns all sessions of a replica.
func (w *watcher) told(f client.Frame, now time.Time) {
	var data struct {
		Code string `json:"code"`
	}
	if err := f.Decode(&data); err != nil {
		w.fault("an error that cannot be read: %v", err)
	}
	switch data.Code {
	case "unavailable", "available":
		w.news = append(w.news, news{data.Code == "available", now})
	}
}

// available says what the session was told last. w.mu is held.
func (w *watcher) available() bool { return len(w.news) == 0 || w.news[len(w.news)-1].available }

// isAvailable says what the session was told last.
func (w *watcher) isAvailable() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.available()
}

// toldSince returns when after a moment the session was first told that events cannot be read: the moment itself, if that
// was what it had been told last.
func (w *watcher) toldSince(from time.Time) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last news
	for _, n := range w.news {
		if !n.available && n.at.After(from) {
			return n.at, true
		}
		last = n
	}
	return from, !last.available && !last.at.IsZero()
}

func (w *watcher) snapshot(f client.Frame, now time.Time) {
	var page struct {
		Videos []struct {
			ID      string `json:"id"`
			Version int64  `json:"version"`
		} `json:"videos"`
		Last bool `json:"last"`
	}
	if err := f.Decode(&page); err != nil {
		w.fault("a snapshot that cannot be read: %v", err)
		return
	}
	if w.paging == nil {
		w.paging = make(map[string]int64)
	}
	for _, v := range page.Videos {
		w.paging[v.ID] = v.Version
	}
	if !page.Last {
		return
	}
	w.base, w.state, w.paging = w.paging, maps.Clone(w.paging), nil
	w.snapshotAt = now
	clear(w.events)
	w.started = true
	var ok bool
	if w.log, w.sequence, ok = parseCursor(f.Cursor); !ok {
		w.fault("a snapshot with the cursor %q", f.Cursor)
	}
}

// follow notes an event's place. Places grow: one that does not is an event that comes twice, or too late. That no
// place is left out, the comparison with the truth shows.
func (w *watcher) follow(id string) {
	log, sequence, ok := parseCursor(id)
	switch {
	case !ok:
		w.fault("an event with the id %q", id)
	case log != w.log:
		w.fault("event %s of another log than %s, without a reset", id, w.log)
	case sequence <= w.sequence:
		w.fault("twice or backwards: event %s after %s.%d", id, w.log, w.sequence)
	}
	w.log, w.sequence = log, sequence
}

func parseCursor(text string) (log string, sequence int64, ok bool) {
	log, digits, found := strings.Cut(text, ".")
	sequence, err := strconv.ParseInt(digits, 10, 64)
	return log, sequence, found && err == nil
}

func (w *watcher) event(f client.Frame, now time.Time) {
	var data struct {
		Version int64 `json:"version"`
	}
	if len(f.Data) > 0 {
		if err := json.Unmarshal(f.Data, &data); err != nil {
			w.fault("an event that cannot be read: %v", err)
		}
	}
	i := item{strings.TrimPrefix(f.Type, "video."), data.Version}
	w.events[f.Subject] = append(w.events[f.Subject], i)
	switch i.Kind {
	case "created", "updated", "added":
		w.state[f.Subject] = data.Version
	case "removed", "deleted":
		delete(w.state, f.Subject)
	case probeType:
		w.arrivals = append(w.arrivals, arrival{data.Version, now})
	}
}

func (w *watcher) fault(format string, args ...any) {
	if len(w.faults) < 20 {
		w.faults = append(w.faults, fmt.Sprintf(format, args...))
	}
}

func (w *watcher) seen(marker string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.markers[marker]
}

func (w *watcher) isStarted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.started
}

func (w *watcher) isLive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live
}

func (w *watcher) resetsSoFar() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.resets
}

// lateAt returns when the late event of this subject came.
func (w *watcher) lateAt(subject string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, came := w.late[subject]
	return at, came
}

// probeSince returns when the first probe of this number or a higher one came.
func (w *watcher) probeSince(number int64) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.arrivals {
		if a.number >= number {
			return a.at, true
		}
	}
	return time.Time{}, false
}

// forgetArrivals forgets all probes and news but the last.
func (w *watcher) forgetArrivals() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.arrivals); n > 1 {
		w.arrivals = append(w.arrivals[:0], w.arrivals[n-1])
	}
	if n := len(w.news); n > 1 {
		w.news = append(w.news[:0], w.news[n-1])
	}
}

// silence returns the longest time between from and until in which no probe came.
func (w *watcher) silence(from, until time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, longest := from, time.Duration(0)
	for _, a := range w.arrivals {
		if a.at.After(until) {
			break
		}
		if a.at.After(from) {
			longest = max(longest, a.at.Sub(last))
			last = a.at
		}
	}
	return max(longest, until.Sub(last))
}

// arrivalsSince returns the probes that came after a moment.
func (w *watcher) arrivalsSince(from time.Time) []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []arrival
	for _, a := range w.arrivals {
		if a.at.After(from) {
			some = append(some, a)
		}
	}
	return some
}

// dialer connects to some replica, whatever address it is given.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// spread returns a dialer that tries the nth address, and the others, in any order, where that one is away: what a load
// balancer does.
func spread(n int, addresses func() []string) dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		addresses := addresses()
		first := n % len(addresses)
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addresses[first])
		for _, at := range rand.Perm(len(addresses)) {
			if err == nil {
				break
			}
			if at != first {
				conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addresses[at])
			}
		}
		return conn, err
	}
}

// pinned returns a dialer that waits for one replica for as long as it takes, so that a client's own pauses do not add
// to what is measured.
func pinned(r *replica) dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		for {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, r.public)
			if err == nil || ctx.Err() != nil {
				return conn, err
			}
			pause(ctx, 20*time.Millisecond)
		}
	}
}
