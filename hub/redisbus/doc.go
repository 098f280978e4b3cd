// Package redisbus carries events from the leader to the replicas over Redis pub/sub. It is the only home of go-redis.
//
// # What it promises
//
//   - What is published while the bus is up arrives in order, each mark after the events that it vouches for. Or the
//     bus goes down, and says so. Nothing is lost without either a Down or a mark that does not follow from the last.
//   - Down comes within [Silence] and a little of the last mark, whatever the network and Redis do or pretend, and
//     within a second of the start if the bus is not up by then. It comes once per outage.
//   - Up comes when Redis has confirmed everything subscribed and a mark has arrived after that. (A leader that cannot
//     reach Redis leaves a bus that is connected, confirmed and useless.)
//   - Publish returns within a second.
//   - What no leader of this version could have written is dropped and counted, never delivered.
//
// # What it does not promise
//
// That a message is genuine. Whoever may publish to Redis can make a well-formed event or mark: Redis must be reachable
// by the replicas alone, and its access list may say who publishes. Epochs and sequences are for the hub to judge, and
// so are repeated events, which a failed publication or a new leader leaves behind.
//
// # Channels and messages
//
// Every owner has a channel, and there is one control channel for marks: see channel.go. A replica subscribes to the
// channels of its own owners, so its work follows its own users. The messages are described in codec.go.
//
// # Life
//
// New connects to nothing. Run is the whole life, and leaves no goroutine and no connection behind; there is nothing to
// close. Publish works while Run runs, on a connection of its own, made by the first Publish. Subscribe and Unsubscribe
// work at any time: before Run and without a connection they only take note.
//
// Run goes through these states, one connection after the other. A connection is never mended.
//
//	            ┌────────────────────────────── pause, 50 ms to 1 s ─────────────────────────────┐
//	            ▼                                                                                │
//	       ┌────────┐ connected  ┌─────────────┐ all confirmed ┌───────────┐  mark  ┌────┐       │
//	Run ──▶│  down  │───────────▶│ subscribing │──────────────▶│ confirmed │───────▶│ up │       │
//	       └────────┘            └─────────────┘               └───────────┘   Up   └────┘       │
//	            │                       │                            │                │          │
//	            └───────────────────────┴────────────────────────────┴────────────────┴──────────┘
//	               any error, or 3 s without a mark: the connection is closed; Down, if it was not told yet
//
// Three goroutines serve a connection, and end with it. The reader decodes what Redis sends. The writer sends SUBSCRIBE
// and UNSUBSCRIBE, everything that has piled up at once. Run's own goroutine takes from the reader, watches the clock,
// and is the only one to call the receiver. Messages that arrive before Up are handed over too.
//
// Subscribe waits for its confirmation while there is a connection. Before Up it waits a tenth of a second at most, and
// then Up waits for the confirmation instead.
package redisbus
