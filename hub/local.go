package hub

import (
	"context"
	"sync"
)

// Local is the Bus of a single replica: what its own leader publishes goes straight to its own hub.
type Local struct {
	// publishing makes a receiver see one call at a time. It is taken before mu, never after, and held while a receiver
	// works; mu never is, since a receiver's locks may be held by whoever unsubscribes.
	publishing sync.Mutex

	mu       sync.Mutex
	owners   map[Owner]struct{} // guarded by mu
	receiver Receiver           // guarded by mu; nil while not running
}

// NewLocal returns a bus that carries within this process.
func NewLocal() *Local {
	return &Local{owners: make(map[Owner]struct{})}
}

// Subscribe implements Bus. It never fails.
func (l *Local) Subscribe(_ context.Context, owner Owner) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owners[owner] = struct{}{}
	return nil
}

// Unsubscribe implements Bus.
func (l *Local) Unsubscribe(owner Owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.owners, owner)
}

// Run implements Bus.
func (l *Local) Run(ctx context.Context, receiver Receiver) error {
	l.connect(receiver)
	defer l.connect(nil)
	<-ctx.Done()
	return nil
}

func (l *Local) connect(receiver Receiver) {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	l.mu.Lock()
	l.receiver = receiver
	l.mu.Unlock()
	if receiver != nil {
		receiver.Up()
	}
}

// Publish hands a batch to the hub of this process. Before Run and after it, the batch is dropped: the log has it.
func (l *Local) Publish(_ context.Context, batch Batch) error {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	receiver, _ := l.subscribed("")
	if receiver == nil {
		return nil
	}
	for _, event := range batch.Events {
		if _, subscribed := l.subscribed(event.Owner); subscribed {
			receiver.Deliver(batch.Log, batch.Epoch, event)
		}
	}
	receiver.Advance(Mark{Log: batch.Log, Epoch: batch.Epoch, From: batch.From, Head: batch.Head})
	return nil
}

func (l *Local) subscribed(owner Owner) (Receiver, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, subscribed := l.owners[owner]
	return l.receiver, subscribed
}
