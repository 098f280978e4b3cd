package api

import (
	"runtime"
	"sync"
)

// writers write for all outboxes of a server, in turns: as many goroutines as there are CPUs, for as long as somebody has
// something to write. One for each outbox would cost more to begin and to end than what it writes.
//
// A writer that has to wait for its client is no longer one of them, and another takes its place before it waits: so
// nobody waits for a client but the one who writes to it.
type writers struct {
	most  int
	tasks *sync.WaitGroup // counts those that there are

	mu          sync.Mutex // no other is taken while it is held
	first, last *outbox    // those whose turn has to come, by outbox.behind; guarded by mu, as all below
	joined      uint64     // how many outboxes ever came, to get a turn each
	served      uint64     // how many of them got it
	working     int        // writers that wait for nobody
}

func newWriters(tasks *sync.WaitGroup) *writers {
	return &writers{most: runtime.GOMAXPROCS(0), tasks: tasks}
}

// join gives an outbox a turn, after those who came before. It must not have one to come already.
func (w *writers) join(o *outbox) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = o
	} else {
		w.last.behind = o
	}
	w.last = o
	w.joined++
	w.begin()
}

// begin starts another writer, if there is work for one. mu is held.
func (w *writers) begin() {
	if w.first != nil && w.working < w.most {
		w.working++
		w.tasks.Go(w.run)
	}
}

func (w *writers) run() {
	l := takeLoad()
	defer giveLoad(l)
	l.writers = w
	for {
		// All who are ready to run go first: among them who brings events, and may have more for these clients. Where nobody
		// is, this costs nothing to speak of. It is not done for each outbox: then those who bring would get as much of the
		// CPU as all who take.
		runtime.Gosched()
		for until := w.queued(); ; {
			o := w.next(until)
			if o == nil {
				break
			}
			o.write(l)
			if l.writers == nil {
				return // it had to wait, and another has its place
			}
		}
		if w.leave() {
			return
		}
	}
}

// queued returns how many came so far.
func (w *writers) queued() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.joined
}

// next takes the next outbox, unless it came after so many; nil: there is none.
func (w *writers) next(until uint64) *outbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.first
	if o == nil || w.served >= until {
		return nil
	}
	w.first, o.behind = o.behind, nil
	if w.first == nil {
		w.last = nil
	}
	w.served++
	return o
}

// leave ends a writer, unless there is work for it.
func (w *writers) leave() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first != nil {
		return false
	}
	w.working--
	return true
}

// replace has another writer take the place of one that is about to wait.
func (w *writers) replace() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.working--
	w.begin()
}
