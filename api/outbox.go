package api

import (
	"sync"
	"sync/atomic"
	"time"
)

// outbox is the writing half of a connection. It has no goroutine: the server's writers give it a turn when there is
// something to be written. One that waits for more would keep, for each idle client, the stack that writing needs.
//
// It holds nothing that waits. The writer asks for all there is when it is ready to write, so that what comes while it
// writes, or before its turn has come, is written together: the slower the writers, the larger their writes.
type outbox struct {
	// turn has written what there is, and reports whether some of it was left for another turn. After an error it is not
	// called again.
	turn    func(*load) (bool, error)
	writers *writers
	behind  *outbox // the next to get a turn; guarded by writers.mu
	pulse   *time.Timer
	turns   sync.WaitGroup // one, while it is its turn

	news atomic.Bool // there may be something that the writer has not looked for
	beat atomic.Bool // a sign of life is due

	mu      sync.Mutex // that of writers alone is taken while it is held
	opened  bool       // guarded by mu, as all below
	waiting bool       // a turn has to come, or has not ended
	closed  bool       // nothing is written any more
}

// open begins to write, and has signs of life written every pingEvery.
func (o *outbox) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = true
	o.pulse = time.AfterFunc(pingEvery, o.pulsate)
	o.queue()
}

// wake has written what there is. It does not block, and is cheap where the writer has been told and has not looked yet.
func (o *outbox) wake() {
	if o.news.Load() || o.news.Swap(true) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue()
}

func (o *outbox) pulsate() {
	o.mu.Lock()
	if !o.closed {
		o.pulse.Reset(pingEvery)
	}
	o.mu.Unlock()
	o.beat.Store(true)
	o.wake()
}

// queue waits for a turn, unless it does so already or may have none. mu is held, so that the connection has not ended
// where a writer begins.
func (o *outbox) queue() {
	if o.opened && !o.waiting && !o.closed {
		o.waiting = true
		o.writers.join(o)
	}
}

// write is its turn.
func (o *outbox) write(l *load) {
	o.mu.Lock()
	closed := o.closed
	if !closed {
		o.turns.Add(1)
	}
	o.mu.Unlock()
	if closed {
		return
	}
	defer o.turns.Done()
	o.news.Store(false) // before looking: what comes after that is news
	more, err := o.turn(l)
	if err != nil {
		return // waiting stays true, so that no turn comes again
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = false
	if more || o.news.Load() {
		o.queue()
	}
}

// close ends writing. It waits for what is being written: the way for it has to be cut before.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	if o.pulse != nil {
		o.pulse.Stop()
	}
	o.mu.Unlock()
	o.turns.Wait()
}
