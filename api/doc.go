// Package api is what clients speak to: GET /events over WebSocket, problem documents, close codes; and the port for
// the people who run it. It is the only home of gin and melody.
//
// # A connection
//
//	GET /events ─▶ request ─▶ origin ─▶ credentials ─▶ Attach, Resume or Snapshot ─▶ upgrade ─▶ pump ⇄ hub.Session
//	                 │           │           │ none, and a page or one who offers reelay.v1: upgrade, wait for the frame "auth"
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
// The bus calls pump, so nothing that waits for a client may happen under a connection's lock.
//
// # Ends
//
// Whatever ends a connection, its client is told why by a close frame that comes after all frames given to the socket,
// and is cut off closeGrace later whether it has answered or not. Nobody holds a connection for ever: not by taking
// nothing (writeLimit), by saying nothing (pongLimit), by not finishing a message (messageLimit) or a request
// (Limits.HeaderTimeout), nor by sending too much (Limits.FrameRate). What melody cannot see of that, wire looks at below it.
//
// Server.Run serves until its context ends, then drains: no new connections, every socket closed with 1012, a few at a
// time, so that its clients do not all come back at the same moment.
package api
