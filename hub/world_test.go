package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/reelay/reelay/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("away")

// tb is what a world needs of a test: a *testing.T, or a *rapid.T.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// world is a running hub and the fakes around it. It lives in a synctest bubble.
type world struct {
	tb

	log     *fakeLog
	bus     *fakeBus
	hub     *hub.Hub
	metrics *prometheus.Registry
	end     context.CancelFunc
	ended   chan error           // what Run returned
	tell    func(available bool) // what prepare wants to be told; may be nil
}

// inWorld runs a test in a bubble with a hub that runs. Those of prepare change the fakes before it does.
func inWorld(t *testing.T, test func(*world), prepare ...func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t, prepare...)) })
}

func newWorld(t tb, prepare ...func(*world)) *world {
	w := &world{tb: t, log: newFakeLog(), bus: newFakeBus(), metrics: prometheus.NewRegistry(), ended: make(chan error, 1)}
	for _, p := range prepare {
		p(w)
	}
	w.hub = hub.New(w.bus, w.log, slog.New(slog.DiscardHandler), hub.NewMetrics(w.metrics))
	if w.tell != nil {
		w.hub.OnAvailability(w.tell)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	go func() { w.ended <- w.hub.Run(ctx) }() // stop waits for it
	t.Cleanup(w.stop)
	synctest.Wait()
	return w
}

// stop ends Run and waits for it. It may be called twice.
func (w *world) stop() {
	w.end()
	w.ended <- <-w.ended
}

// pass lets time pass, and everybody do what is to be done by then.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// append commits an event of owner and numbers it, and nobody hears of it.
func (w *world) append(owner hub.Owner) hub.Batch { return w.log.append(owner, "v") }

// publish commits an event of owner, numbers it and publishes it.
func (w *world) publish(owner hub.Owner) {
	w.bus.send(w.append(owner))
	synctest.Wait()
}

// value returns a metric, the sum over its labels, unless those given say which. One that nobody registered fails the
// test: it would stay 0 whatever happens.
func (w *world) value(name string, labels ...string) (sum float64) {
	w.Helper()
	if !w.registered(name) {
		w.Fatalf("no metric %s is registered", name)
	}
	families, err := w.metrics.Gather()
	if err != nil {
		w.Fatalf("gather metrics: %v", err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			if len(labels) > 0 && metric.GetLabel()[0].GetValue() != labels[0] {
				continue
			}
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return sum
}

// registered reports whether there is a metric, though it may have no value yet.
func (w *world) registered(name string) bool {
	descriptions := make(chan *prometheus.Desc)
	go func() { // ends when all have been read below
		defer close(descriptions)
		w.metrics.Describe(descriptions)
	}()
	found := false
	for d := range descriptions {
		found = found || strings.HasPrefix(d.String(), `Desc{fqName: "`+name+`",`) // all that a description tells
	}
	return found
}

// client holds a session as api does: it calls Next until there is nothing, and then not before it is woken.
type client struct {
	*hub.Session

	w      *world
	awake  atomic.Bool
	woken  atomic.Int64 // how often
	cursor hub.Cursor   // what Next said last
	got    []hub.Cursor // what Next said in the last take
}

// attach attaches a client that has no place yet.
func (w *world) attach(owner hub.Owner) *client {
	w.Helper()
	return w.attachWith(owner, hub.Options{})
}

func (w *world) attachWith(owner hub.Owner, options hub.Options) *client {
	w.Helper()
	c := &client{w: w}
	session, err := w.hub.Attach(context.Background(), owner, c.wake, options)
	if err != nil {
		w.Fatalf("attach %s: %v", owner, err)
	}
	c.Session = session
	w.Cleanup(session.Close)
	return c
}

func (c *client) wake() {
	c.woken.Add(1)
	c.awake.Store(true)
}

// live attaches a client and places it at this moment.
func (w *world) live(owner hub.Owner) *client {
	w.Helper()
	c := w.attach(owner)
	if _, err := c.Live(context.Background()); err != nil {
		w.Fatalf("live %s: %v", owner, err)
	}
	c.awake.Store(true)
	return c
}

// resume attaches a client and resumes.
func (w *world) resume(owner hub.Owner, log string, after hub.Sequence) (*client, error) {
	w.Helper()
	c := w.attach(owner)
	c.awake.Store(true)
	return c, c.Resume(context.Background(), hub.Cursor{Log: log, Sequence: after})
}

// snapshot places a client by a snapshot.
func (c *client) snapshot() (hub.Snapshot, hub.Cursor) {
	c.w.Helper()
	snapshot, cursor, err := c.Snapshot(context.Background(), nil)
	if err != nil {
		c.w.Fatalf("snapshot: %v", err)
	}
	c.awake.Store(true)
	return snapshot, cursor
}

// take returns all events there are for the client now, and how its place was lost if it was.
func (c *client) take() (events []*hub.Event, err error) {
	c.got = nil
	for synctest.Wait(); c.awake.Swap(false); synctest.Wait() {
		for {
			event, cursor, err := c.Next()
			if err != nil {
				return events, err
			}
			if event == nil {
				break
			}
			c.cursor, c.got = cursor, append(c.got, cursor)
			events = append(events, event)
		}
	}
	return events, nil
}

// sees checks that the client gets exactly these events now.
func (c *client) sees(want ...hub.Sequence) {
	c.w.Helper()
	events, err := c.take()
	got := make([]hub.Sequence, len(events))
	for i, event := range events {
		got[i] = event.Sequence
	}
	if err != nil || !slices.Equal(got, want) {
		c.w.Fatalf("the client got events %v and error %v, want %v", got, err, want)
	}
	if len(want) > 0 && c.cursor != (hub.Cursor{Log: c.w.log.name, Sequence: want[len(want)-1]}) {
		c.w.Fatalf("the cursor after event %d is %s", want[len(want)-1], c.cursor)
	}
}

// seesUpTo checks that the client gets all events from one to another now.
func (c *client) seesUpTo(first, last hub.Sequence) {
	c.w.Helper()
	var want []hub.Sequence
	for n := first; n <= last; n++ {
		want = append(want, n)
	}
	c.sees(want...)
}

// isReset checks that the client learns now that its place is gone, and why.
func (c *client) isReset(want hub.Reason) {
	c.w.Helper()
	events, err := c.take()
	checkReset(c.w, err, want)
	if len(events) > 0 {
		c.w.Fatalf("the client got %d events before its reset, want none", len(events))
	}
}

func checkReset(t tb, err error, want hub.Reason) {
	t.Helper()
	reset, ok := errors.AsType[*hub.ErrReset](err)
	if !ok || reset.Reason != want {
		t.Fatalf("got error %v, want a reset, %s", err, want)
	}
}
