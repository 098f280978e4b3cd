package hub_test

import (
	"context"
	"sync"

	"github.com/reelay/reelay/hub"
)

// fakeBus is a Bus whose messages the test carries by hand: what it does not carry is lost.
type fakeBus struct {
	turn sync.Mutex // one call of the receiver at a time

	mu          sync.Mutex
	receiver    hub.Receiver
	subscribed  map[hub.Owner]bool
	subscribes  int           // how often Subscribe was called
	unconfirmed chan struct{} // Subscribe waits for its end; nil: it does not wait
	starting    bool          // Run says neither Up nor Down
	broken      chan error    // ends Run with an error
}

func newFakeBus() *fakeBus {
	return &fakeBus{subscribed: make(map[hub.Owner]bool), broken: make(chan error)}
}

func (b *fakeBus) Subscribe(ctx context.Context, owner hub.Owner) error {
	b.mu.Lock()
	b.subscribes++
	b.subscribed[owner] = true
	unconfirmed := b.unconfirmed
	b.mu.Unlock()
	if unconfirmed == nil {
		return nil
	}
	select {
	case <-unconfirmed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *fakeBus) Unsubscribe(owner hub.Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscribed, owner)
}

func (b *fakeBus) Run(ctx context.Context, receiver hub.Receiver) error {
	b.mu.Lock()
	b.receiver = receiver
	b.mu.Unlock()
	if !b.starting {
		b.up()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-b.broken:
		return err
	}
}

// withhold keeps back confirmations of subscriptions until it is released.
func (b *fakeBus) withhold() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	unconfirmed := make(chan struct{})
	b.unconfirmed = unconfirmed
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.unconfirmed = nil
		close(unconfirmed)
	})
}

func (b *fakeBus) up() { b.call(func(r hub.Receiver) { r.Up() }) }

func (b *fakeBus) down(reason error) { b.call(func(r hub.Receiver) { r.Down(reason) }) }

// send carries a batch as it should be: the events of those who are subscribed, in order, then the mark.
func (b *fakeBus) send(batch hub.Batch) {
	b.events(batch)
	b.mark(batch)
}

// events carries the events of a batch and loses its mark.
func (b *fakeBus) events(batch hub.Batch) {
	for _, event := range batch.Events {
		if b.has(event.Owner) {
			b.call(func(r hub.Receiver) { r.Deliver(batch.Log, batch.Epoch, clone(event)) })
		}
	}
}

// mark carries the mark of a batch and loses its events.
func (b *fakeBus) mark(batch hub.Batch) {
	b.call(func(r hub.Receiver) {
		r.Advance(hub.Mark{Log: batch.Log, Epoch: batch.Epoch, From: batch.From, Head: batch.Head})
	})
}

func (b *fakeBus) call(what func(hub.Receiver)) {
	b.turn.Lock()
	defer b.turn.Unlock()
	what(b.receiver)
}

func (b *fakeBus) has(owner hub.Owner) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subscribed[owner]
}

// asked returns how many subscriptions there have been, and how many there are.
func (b *fakeBus) asked() (ever, now int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subscribes, len(b.subscribed)
}
