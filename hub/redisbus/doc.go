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
//   - What no leader with the key has written for that channel is dropped and counted, never delivered. An old mark that
//     comes again is dropped too.
//
// # What it does not promise
//
// That a genuine event is new. Whoever may publish to Redis can repeat one on its channel; so do a failed publication
// and a new leader. The hub knows it by its epoch and sequence. Nor that events come at all while somebody else rules
// over Redis: who can drop messages can keep them back until reconciliation finds what is missing. And messages are
// signed, not secret: who may subscribe can read them. So Redis belongs where the replicas alone reach it.
//
// # Channels and messages
//
// Every owner has a channel, and there is one control channel for marks: see channel.go. A replica subscribes to the
// channels of its own owners, so its work follows its own users. A message and its signature are described in sign.go,
// what it says in codec.go.
//
// # The secret
//
// All replicas share a secret, and make of it a key to sign with: see secret.go. A replica that has another one hears
// nothing that it believes: its bus stays down, it reads the log, and it logs why. The bus is down too while the secret
// cannot be had.
//
// # Tickets
//
// [Tickets] keep what a client left here for its next request, which may come to any replica. They have nothing to do
// with the bus but the Redis, its settings and the secret.
//
// # Life
//
// New connects to nothing. Run is the whole life, and leaves no goroutine and no connection behind; there is nothing to
// close. Publish works while Run runs, on a connection of its own, made by the first Publish. Subscribe and Unsubscribe
// work at any time: before Run and without a connection they only take note.
//
// Run goes through these states, one connection after the other. A connection is never mended.
//
// Before the first connection stands the asking for the secret, which is down as well.
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
