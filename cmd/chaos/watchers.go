package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/reelay/reelay/api/client"
)

// watcher is one client: it keeps what it received, and the state that this amounts to.
type watcher struct {
	user   string
	name   string
	client *client.Client

	mu       sync.Mutex
	events   map[string][]item // subject → items, since the last snapshot; guarded by mu, as all below
	base     map[string]int64  // the last snapshot
	state    map[string]int64  // video → version
	started  bool              // a snapshot has come
	paging   map[string]int64  // pages of the snapshot that is coming
	received int
	resets   int
	ids      map[string]int  // event ids, to see one twice
	faults   []string        // what must never happen
	markers  map[string]bool // markers received
	lastSeen map[string]time.Time
}

func newWatcher(user, name string, token func(context.Context) (string, error), dial dialer) (*watcher, error) {
	w := &watcher{
		user: user, name: name, events: make(map[string][]item), state: make(map[string]int64),
		ids: make(map[string]int), markers: make(map[string]bool), lastSeen: make(map[string]time.Time),
	}
	c, err := client.New(client.Config{
		URL: "http://replica", Token: token,
		Dialer: &websocket.Dialer{NetDialContext: dial, HandshakeTimeout: 10 * time.Second},
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

// handle takes one frame. It never fails: what is wrong with it is noted.
func (w *watcher) handle(_ context.Context, f client.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f.Type == client.TypeSnapshot:
		w.snapshot(f)
	case f.Type == client.TypeReset:
		w.resets++
	case f.Own():
	case f.Type == "chaos.marker":
		w.markers[f.Subject] = true
		w.lastSeen[f.Subject] = time.Now()
	default:
		w.event(f)
	}
	return nil
}

func (w *watcher) snapshot(f client.Frame) {
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
	if page.Last {
		w.base, w.state, w.paging = w.paging, maps.Clone(w.paging), nil
		clear(w.events)
		w.started = true
	}
}

func (w *watcher) event(f client.Frame) {
	w.received++
	if w.ids[f.ID]++; w.ids[f.ID] == 2 {
		w.fault("twice: %s", f.ID)
	}
	var data struct {
		Version int64 `json:"version"`
	}
	if len(f.Data) > 0 {
		if err := json.Unmarshal(f.Data, &data); err != nil {
			w.fault("an event that cannot be read: %v", err)
		}
	}
	kind := strings.TrimPrefix(f.Type, "video.")
	w.events[f.Subject] = append(w.events[f.Subject], item{kind, data.Version})
	switch kind {
	case "created", "updated", "added":
		w.state[f.Subject] = data.Version
	case "removed", "deleted":
		delete(w.state, f.Subject)
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

// verdict counts what a watcher's record says against the truth.
type verdict struct {
	Lost, Twice, Disordered, Foreign, States int
	Details                                  []string
}

func (v *verdict) add(o verdict) {
	v.Lost += o.Lost
	v.Twice += o.Twice
	v.Disordered += o.Disordered
	v.Foreign += o.Foreign
	v.States += o.States
	v.Details = append(v.Details, o.Details...)
}

func (v *verdict) clean() bool {
	return v.Lost+v.Twice+v.Disordered+v.Foreign+v.States == 0
}

// check compares everything the watcher received with the truth. It is called when all is quiet.
func (w *watcher) check(t *truth) verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	var v verdict
	note := func(format string, args ...any) {
		v.Details = append(v.Details, w.name+": "+fmt.Sprintf(format, args...))
	}
	for _, fault := range w.faults {
		v.Twice++
		note("%s", fault)
	}
	expected := t.events[w.user]
	for subject, got := range w.events {
		want, known := expected[subject]
		if !known {
			v.Foreign += len(got)
			note("foreign: %s %v", subject, got)
			continue
		}
		compare(&v, note, subject, after(want, w.base, subject, len(got)), got)
	}
	for subject, want := range expected {
		if _, any := w.events[subject]; any {
			continue
		}
		if missing := after(want, w.base, subject, 0); len(missing) > 0 {
			v.Lost += len(missing)
			note("lost: %s %v", subject, missing)
		}
	}
	if !maps.Equal(w.state, t.state[w.user]) && len(w.state)+len(t.state[w.user]) > 0 {
		v.States++
		note("state: has %v, the table has %v", w.state, t.state[w.user])
	}
	return v
}

// after returns the part of the expected items that was to come after the snapshot. A video that the snapshot holds has
// its version there. One that it does not hold was gone at that moment, or not there yet: what follows begins at the
// start, or behind a removal; of these the one that fits the number received is meant.
func after(want []item, base map[string]int64, subject string, received int) []item {
	if version, held := base[subject]; held {
		at := slices.IndexFunc(want, func(i item) bool { return i.Version == version })
		return want[at+1:]
	}
	if base == nil || len(want) == received {
		return want
	}
	for at := range want {
		if want[at].Version == 0 && len(want)-at-1 == received {
			return want[at+1:]
		}
	}
	return want
}

func compare(v *verdict, note func(string, ...any), subject string, want, got []item) {
	if slices.Equal(want, got) {
		return
	}
	note("%s: want %v, got %v", subject, want, got)
	count := make(map[item]int)
	for _, i := range want {
		count[i]++
	}
	for _, i := range got {
		count[i]--
	}
	same := true
	for _, n := range count {
		if n > 0 {
			v.Lost += n
		}
		if n < 0 {
			v.Twice -= n
		}
		same = same && n == 0
	}
	if same {
		v.Disordered++
	}
}

// dialer connects to some replica, whatever address it is given.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// spread returns a dialer that tries the addresses from the nth on, and any other where that one is away: what a load
// balancer does.
func spread(n int, addresses func() []string) dialer {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var err error
		all := addresses()
		for try := range all {
			at := (n + try) % len(all)
			if try > 0 {
				at = rand.IntN(len(all))
			}
			var conn net.Conn
			if conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, all[at]); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
}
