package hub

import "slices"

// foreign notes that events of another owner were kept from a session. The first is logged, for there may be many, and
// nothing of them.
func (h *Hub) foreign(events int) {
	if events == 0 {
		return
	}
	h.metrics.foreign.Add(float64(events))
	h.metrics.foreignTold.Do(func() {
		h.logger.Error("an event of another owner was about to reach a session, and was dropped; a metric counts the next")
	})
}

// keep drops the events that are not of owner, and returns how many. There are none, or the log is badly wrong; then the
// page begins where the owner's own events do, and what is missing before them is missing. Where a page has holes, as
// Newest's has, only one with nothing of the owner's own tells.
func (p *Page) keep(owner Owner, holes bool) (dropped int) {
	isForeign := func(e *Event) bool { return e.Owner != owner }
	if !slices.ContainsFunc(p.Events, isForeign) {
		return 0
	}
	all := len(p.Events)
	p.Events = slices.DeleteFunc(slices.Clone(p.Events), isForeign) // the log's own slice stays as it is
	switch {
	case len(p.Events) == 0:
		p.First = 0
	case !holes:
		p.First = p.Events[0].Sequence
	}
	return all - len(p.Events)
}
