// Package api is what clients speak to: GET /events over WebSocket, problem documents, close codes; and the port for
// the people who run it. It is the only home of gin and melody.
//
// # A connection
//
//	GET /events ─▶ request ─▶ origin ─▶ credentials ─▶ Attach, Resume or Snapshot ─▶ upgrade ─▶ pump ⇄ hub.Session
//	                 │           │           │ none: upgrade, wait for the frame "auth"
//	                 ▼           ▼           ▼
//	               400         403        401, 503        as HTTP; a browser cannot see those on an upgrade,
//	                                                      so it is let in and told by close code
//
// A Principal becomes a hub.Owner in one function, owner, and nothing else a client sends ever does.
//
// # Sending
//
// A connection owns no queue of events. At most two frames lie in melody; when one has been written, the pump takes the
// next: first what the gateway itself has to say, then what hub.Session.Next gives. So a client that does not read costs
// two frames and a cursor, and one that reads again goes on where it was.
//
// # Ends
//
// Server.Run serves until its context ends, then drains: no new connections, every socket closed with 1012, a few at a
// time, so that its clients do not all come back at the same moment.
package api
