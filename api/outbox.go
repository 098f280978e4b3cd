package api

import (
	"errors"
	"sync"
	"time"
)

// errOutboxClosed is what an outbox that is closed answers to a frame.
var errOutboxClosed = errors.New("nothing is written any more")

// outbox is the writing half of a transport. It writes by a goroutine that lives for as long as there is something to be
// written: one that waits for more would keep, for each idle client, the stack that writing needs.
type outbox struct {
	// write writes all of a load, and returns when the next may follow. If it returns an error, none does.
	write   func(load) error
	pulse   *time.Timer
	writers sync.WaitGroup

	mu      sync.Mutex // may be taken while the connection's is held
	load    load       // guarded by mu, as all below
	writing bool       // a goroutine writes
	closed  bool       // nothing is written any more
}

// load is what there is to be written at a time.
type load struct {
	frames []frame
	beat   bool     // a sign of life
	why    *problem // what the client is told at the end
}

func (l *load) isEmpty() bool { return l.frames == nil && !l.beat && l.why == nil }

// open has signs of life written every pingEvery.
func (o *outbox) open() { o.pulse = time.AfterFunc(pingEvery, o.beat) }

// put implements transport.send.
func (o *outbox) put(f frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return errOutboxClosed
	}
	o.load.frames = append(o.load.frames, f)
	o.begin()
	return nil
}

// putLast has the client told why it is sent away.
func (o *outbox) putLast(why *problem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.load.why = why
	o.begin()
}

func (o *outbox) beat() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.pulse.Reset(pingEvery)
		o.load.beat = true
		o.begin()
	}
}

// begin has what there is written. mu is held.
func (o *outbox) begin() {
	if !o.writing && !o.closed {
		o.writing = true
		o.writers.Go(o.run)
	}
}

func (o *outbox) run() {
	for l, more := o.take(); more; l, more = o.take() {
		if err := o.write(l); err != nil {
			return // writing stays true, so that nobody begins again
		}
	}
}

// take takes all there is to be written. It reports false if there is nothing, and writing is over then.
func (o *outbox) take() (load, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.load
	o.load = load{}
	o.writing = !o.closed && !taken.isEmpty()
	return taken, o.writing
}

// close ends writing. It waits for what is being written: the way for it has to be cut before.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	if o.pulse != nil {
		o.pulse.Stop()
	}
	o.writers.Wait()
}
