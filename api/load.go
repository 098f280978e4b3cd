package api

import (
	"bytes"
	"sync"
	"time"
)

const (
	// loadBytes is how large a load has become when nothing more is added. Ever larger ones would save ever less, and who
	// takes one load slowly is thought slow.
	loadBytes = 16 << 10
	// loadFrames is how many frames a load has at the most.
	loadFrames = 64
)

// load is what a transport writes at a time, in this order: by one system call, unless it is large.
type load struct {
	beat   bool // a sign of life
	frames []frame
	why    *problem  // what the client is told at the end; nil if this is not the end
	size   int       // bytes of frames
	begun  time.Time // when writing it began

	writers *writers     // who writes it is one of them; nil when that waits for its client
	bytes   bytes.Buffer // for what is written, as the transport writes it
	attempt attempt
}

// stall is called by who writes the load, before waiting for the client: another writer takes its place.
func (l *load) stall() {
	if l.writers != nil {
		l.writers.replace()
		l.writers = nil
	}
}

func (l *load) add(f frame) {
	l.frames = append(l.frames, f)
	l.size += len(f.json)
}

func (l *load) isFull() bool { return l.size >= loadBytes || len(l.frames) >= loadFrames }

func (l *load) isEmpty() bool { return len(l.frames) == 0 && !l.beat && l.why == nil }

// reset makes the load an empty one, which keeps no frame alive.
func (l *load) reset() {
	clear(l.frames)
	l.beat, l.frames, l.why, l.size = false, l.frames[:0], nil, 0
	if l.bytes.Cap() > bufferMost {
		l.bytes = bytes.Buffer{}
	}
	l.bytes.Reset()
}

var loads = sync.Pool{New: func() any { return new(load) }}

func takeLoad() *load {
	return loads.Get().(*load) //nolint:errcheck // giveLoad alone puts something there
}

func giveLoad(l *load) {
	l.reset()
	l.writers = nil
	loads.Put(l)
}
