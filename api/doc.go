// Package api is what clients speak to: GET /events by WebSocket, as an event stream or as pages of JSON, problem documents,
// close codes; and the port for the people who run it. It is the only home of gin and melody.
//
// # A request
//
//	GET /events ─▶ way ─▶ origin ─▶ query ─▶ credentials ─▶ Attach, Resume or Snapshot ─▶ socket, stream or page
//	                │       │         │         │ none, and a WebSocket of a page or of one who offers reelay.v1:
//	                ▼       ▼         ▼         ▼ upgrade, wait for the frame "auth"
//	               4xx     403       400     401, 503       as HTTP. A browser cannot see those on an upgrade, so it is let
//	                                                        in and told by close code; an EventSource never comes back after
//	                                                        them, so it is told in a stream what it should come back after
//
// The request itself says which way its client is served: by Upgrade, by Accept, or else by a page. What can be asked for,
// what is refused and what is promised is the same for all; the tests named Alike hold them to it.
//
// A Principal becomes a hub.Owner in one function, owner, and nothing else a client sends ever does.
//
// # Those who stay
//
// A connection is what a WebSocket and an event stream have in common: who it is, what was asked for, the gateway's own
// frames, the token's life, the outbox, the end. A transport carries its frames.
//
//	bus ── wake ──▶ outbox ── turn ──▶ connection ── write, cut ──▶ socket: melody, and wire below it
//	                                       ▲                        stream ─▶ line: chunked (HTTP/1.1) or multiplexed (HTTP/2)
//	                          hub.Session ─┘
//
// A connection owns no queue of events. When its writer is ready to write it takes a load: first what the gateway itself
// has to say, then what hub.Session.Next gives, 16 KiB and 64 frames at the most; and writes it by one system call. So a
// client that does not read costs one load and a cursor, and one that reads again goes on where it was. And whatever came
// before a writer's turn is written together, with no timer to wait for it: the busier the replica, the larger the loads.
//
// The bus only wakes writers, so nothing that waits for a client can hold it up.
//
// An idle client costs what it must. Its connection is taken over from net/http, whose request, buffers and goroutine go.
// One goroutine reads it. Those that write, one for each CPU, are the server's, and live while any outbox has something to
// be written. One that is about to wait for its client is replaced first. Over HTTP/2, which net/http serves, a stream is a
// handler that waits.
//
// # Those who ask
//
// A page is read by a hub.Session that lives for one request, in its handler. It waits, where the client wants it to, until
// there is something to say; the log is read again until all that is known to be there is in the page, or it is full.
//
// # Ends
//
// Whatever ends a connection, its client is told why after all frames given to the transport: by a close frame, or by a
// last reelay.error in a stream, which is then broken off: some clients take a clean end for the end of all. It is cut off
// closeGrace later whether it has answered or not. Nobody holds a connection for ever: not by taking nothing (writeLimit),
// by saying nothing (pongLimit; of a stream's client, which has nothing to say, its kernel has to), by not finishing a
// message (messageLimit) or a request (Limits.HeaderTimeout), nor by sending too much (Limits.FrameRate, saidMost). What melody
// cannot see of that, wire looks at below it.
//
// Server.Run serves until its context ends, then drains: no new connections, every one sent away (1012, restart), a few at
// a time, so that clients do not all come back at the same moment. Long polls are answered at once with what there is.
package api
