// Package hub knows who listens on this replica and brings them their events: each once, in order, and none of
// anybody else's. It knows neither Postgres nor Redis nor sockets; it is handed a Log and a Bus, and is drained by
// whoever holds a Session.
//
// # Cursors all the way down
//
// A Session is a cursor over its owner's events, and nothing more: it owns no queue. The feed of its owner, one for all
// sessions of a user on this replica, is a cursor too: it is complete up to its head, and keeps the last few events.
// The hub is a cursor over positions. All three do the same: read the log after the cursor, then go live.
//
//	session   behind what the feed keeps      → reads a page of the log, at the speed of its socket
//	feed      a hole in the owner's sequence  → reads the log from its head
//	hub       a mark that does not connect, the bus down or up again, a new log
//	                                          → asks the log which owners have more, and those feeds read it
//
// So a slow session costs its cursor and one page, a lost message costs one read, and no queue can overflow.
//
//	           Attach                     Resume, Snapshot, Live
//	(none) ───────────▶ attached, no place ────────────────────▶ live ◀──────────────┐
//	                    (subscription is                          │ Next             │ page read
//	                     confirmed)                               ├─ more than kept ─▶ catching up
//	                                                              └─ events gone, other log ─▶ Next says ErrReset;
//	                                                                 Snapshot gives it a place again
//
// # What it promises
//
// Nothing twice: an event is handed out when its sequence is the next one, so a repeated one is dropped. Nothing lost:
// a sequence that is not the next one makes the feed read the log, and so does anything that makes this replica doubt
// the bus. Nobody else's: an event reaches the feed of its owner, and a session hangs on one feed for life; and an event
// that names another owner is dropped where it would be handed out, wherever it came from. What it does not promise: that
// a session hears of the last event of a silent owner at once, if the bus loses just that message and nothing after;
// reconciliation finds it within reconcileEvery.
//
// It is honest about the log: when that has answered nothing for unansweredAfter, or nothing but errors for
// unavailableAfter, Ready says so and whoever asked by OnAvailability is told, both at once. Attach refuses then, or, where
// there is no answer rather than a no, after refuseAfter.
//
// New only stores; Run is the life; after it, sessions get no more events. All methods are safe for concurrent use,
// except that a Session's are called by one goroutine at a time (Wake may come from any).
package hub
