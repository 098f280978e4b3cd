package api

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// outbox is the writing half of a connection. It writes by a goroutine that lives for as long as there is something to be
// written: one that waits for more would keep, for each idle client, the stack that writing needs.
//
// It holds nothing that waits. The writer asks for all there is when it is ready to write, so that what comes while it
// writes, or before its turn has come, is written together: the slower the writers, the larger their writes.
type outbox struct {
	// turn has written what there is, and reports whether some of it was left for another turn. After an error it is not
	// called again.
	turn    func(*load) (bool, error)
	pulse   *time.Timer
	writers sync.WaitGroup

	news atomic.Bool // there may be something that the writer has not looked for
	beat atomic.Bool // a sign of life is due

	mu      sync.Mutex // no other is taken while it is held
	opened  bool       // guarded by mu, as all below
	writing bool       // a goroutine writes
	closed  bool       // nothing is written any more
}

// open begins to write, and has signs of life written every pingEvery.
func (o *outbox) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = true
	o.pulse = time.AfterFunc(pingEvery, o.pulsate)
	o.begin()
}

// wake has written what there is. It does not block, and is cheap where the writer has been told and has not looked yet.
func (o *outbox) wake() {
	if o.news.Load() || o.news.Swap(true) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begin()
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

// begin starts the writer, unless it is at work or may not be. mu is held.
func (o *outbox) begin() {
	if o.opened && !o.writing && !o.closed {
		o.writing = true
		o.writers.Go(o.run)
	}
}

func (o *outbox) run() {
	l := takeLoad()
	defer giveLoad(l)
	for {
		// All who are ready to run go first: among them who brings events, and may have more for this client. Where nobody
		// is, this costs nothing to speak of.
		runtime.Gosched()
		o.news.Store(false) // before looking: what comes after that is news
		more, err := o.turn(l)
		if err != nil {
			return // writing stays true, so that nobody begins again
		}
		if !more && o.rest() {
			return
		}
	}
}

// rest ends the writing, unless there is news.
func (o *outbox) rest() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = o.news.Load()
	return !o.writing
}

// close ends writing. It waits for what is being written: the way for it has to be cut before.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	if o.pulse != nil {
		o.pulse.Stop()
	}
	o.mu.Unlock()
	o.writers.Wait()
}
