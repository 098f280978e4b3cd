package redisbus

import (
	"sync"

	"github.com/reelay/reelay/hub"
)

const (
	// arrivalsAhead and bytesAhead are how far reading may be ahead of delivering. When it is so far the reader waits, and
	// Redis buffers; when it buffers too much it cuts us off, and that is an outage like any other.
	//
	// Reading is far ahead when this replica is busy, and that is what makes it faster: who delivers several events of one
	// owner at a time has them written together.
	arrivalsAhead = 8192
	bytesAhead    = maxMessage
)

// arrival is one thing that Redis sent, in the order in which it sent it. One of event, mark and confirmed is set.
type arrival struct {
	log       string
	epoch     hub.Epoch
	event     *hub.Event
	mark      *hub.Mark
	confirmed string // the channel of a confirmation
}

// arrivals is what the reader has read and nobody has delivered. One goroutine puts and another takes.
type arrivals struct {
	some chan struct{} // holds an element when there is something to be taken, or nothing will come any more
	room chan struct{} // holds an element when all has been taken

	mu      sync.Mutex
	waiting []arrival // guarded by mu, as all below
	bytes   int       // that they took on the wire
	ended   bool      // nothing will come any more
}

func newArrivals() *arrivals {
	return &arrivals{some: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put adds what took so many bytes on the wire, as soon as there is room. It reports false if gone is closed before.
func (q *arrivals) put(a arrival, bytes int, gone <-chan struct{}) bool {
	for !q.add(a, bytes) {
		select {
		case <-q.room:
		case <-gone:
			return false
		}
	}
	notify(q.some)
	return true
}

func (q *arrivals) add(a arrival, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.waiting); n > 0 && (n >= arrivalsAhead || q.bytes+bytes > bytesAhead) {
		return false
	}
	q.waiting = append(q.waiting, a)
	q.bytes += bytes
	return true
}

// end says that nothing more will be put.
func (q *arrivals) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	notify(q.some)
}

// take returns all that waits, and whether nothing will come after it. It is called when some says so, with what it
// returned the last time, which is used again.
func (q *arrivals) take(used []arrival) (all []arrival, ended bool) {
	clear(used)
	q.mu.Lock()
	all, ended = q.waiting, q.ended
	q.waiting, q.bytes = used[:0], 0
	q.mu.Unlock()
	notify(q.room)
	return all, ended
}

// notify tells whoever waits on c, now or the next time.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // told, and has not looked yet
	}
}
