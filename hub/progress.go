package hub

// Progress returns the cursor behind all that the session is through with, whether Next handed it out or left it out,
// and whether there is more that Next will come to without anything new being committed: events that this replica knows
// of, or the end of what a snapshot contained already. It is for those who ask and leave, rather than stay: for them, a
// nil of Next does not tell "nothing there" from "being read". A session without a place is behind.
func (s *Session) Progress() (Cursor, bool) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	behind := !s.placed || s.cursor < max(f.head, f.want) || len(s.skip) > 0
	return Cursor{Log: f.log, Sequence: s.cursor}, behind
}
