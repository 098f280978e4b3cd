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
	// All who are ready to run go first: among them who brings events, and may have more for these clients. Where nobody
	// is, this costs nothing to speak of. It is not done for each outbox: then those who bring would get as much of the
	// CPU as all who take. Nor again while there are outboxes: who brings them is running, or there will soon be none.
	runtime.Gosched()
	for o := w.next(); o != nil; o = w.next() {
		o.write(l)
		if l.writers == nil {
			return // it had to wait, and another has its place
		}
	}
}

// next takes the next outbox. nil: there is none, and who asked is no longer one of the writers.
func (w *writers) next() *outbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.first
	if o == nil {
		w.working--
		return nil
	}
	w.first, o.behind = o.behind, nil
	if w.first == nil {
		w.last = nil
	}
	return o
}

// replace has another writer take the place of one that is about to wait.
func (w *writers) replace() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.working--
	w.begin()
}
