package hub

import "time"

// askNameEvery is how often messages of a log of another name make the hub ask Postgres for the name.
const askNameEvery = time.Second

// Deliver implements Receiver.
func (h *Hub) Deliver(log string, epoch Epoch, event *Event) {
	if !h.accept(log, epoch) {
		return
	}
	f := h.lookup(event.Owner)
	if f == nil {
		return // its last session left a moment ago
	}
	duplicate, hole, other := f.receive(log, event)
	if duplicate {
		h.metrics.duplicates.Inc()
	}
	if hole {
		h.metrics.holes.Inc()
		h.fill(f)
	}
	if other {
		h.doubt("other_log")
	}
}

// Advance implements Receiver. A mark speaks for what was published while the bus was up: one that comes before, or
// that follows events from before, moves nothing.
func (h *Hub) Advance(mark Mark) {
	if !h.accept(mark.Log, mark.Epoch) {
		return
	}
	h.mu.Lock()
	h.marked = time.Now()
	missed := mark.From > h.position
	if !missed && h.vouched {
		h.position = max(h.position, mark.Head)
	}
	position := h.position
	h.mu.Unlock()
	h.metrics.position.Set(float64(position))
	if missed {
		h.doubt("gap")
	}
}

// Up implements Receiver.
func (h *Hub) Up() {
	h.setUp(true)
	h.doubt("bus_up") // what was published before may be missing
}

// Down implements Receiver.
func (h *Hub) Down(reason error) {
	h.setUp(false)
	h.logger.Warn("the bus is down, reading the log instead", "err", reason, "every", pollEvery)
	h.doubt("bus_down")
}

func (h *Hub) setUp(up bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up, h.vouched = up, false
	if up {
		h.metrics.busUp.Set(1)
	} else {
		h.metrics.busUp.Set(0)
	}
}

// accept refuses what comes from another log or from a leader that has been replaced. Events of such a leader that did
// get a position have been published by its successor too, or are found in the log.
func (h *Hub) accept(log string, epoch Epoch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case log != h.name:
		h.metrics.refused.WithLabelValues("other_log").Inc()
		// Ours may have got a new name: Postgres knows. It need not be asked for each message of a stranger.
		if now := time.Now(); now.Sub(h.askedName) > askNameEvery {
			h.askedName = now
			h.doubt("other_log")
		}
		return false
	case epoch < h.epoch:
		h.metrics.refused.WithLabelValues("old_epoch").Inc()
		return false
	}
	h.epoch = epoch
	return true
}
