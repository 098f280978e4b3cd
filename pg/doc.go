// Package pg holds every line of SQL that Reelay runs, and is the only home of pgx.
//
// Relay is the leader's side: of all replicas, the one whose session holds an advisory lock gives positions to what
// writers committed, and publishes it. Log is the reader's side, for all replicas: pages of the log, snapshots, heads.
// Revocations hears, on every replica by itself, whom the application shut out. Migrate, Watch and their like are what an
// operator calls once.
//
// # The life of a Relay
//
//	         ┌────────── connection or lock lost, pause with jitter ──────────┐
//	         ▼                                                                │
//	     candidate ── try the lock every 250 ms ──▶ takeover ──▶ leading ─────┘
//	(never blocks in it: a waiter             raise the epoch,   drain, publish,
//	 whose host has vanished would            publish again      mark, sleep
//	 get the lock as a ghost)                 after the mark
//
// The connection that holds the lock is the one that listens and numbers, so a leader that has lost the lock cannot
// number either. What it may still do is publish what it had in hand: that carries its epoch, and is refused.
//
// What a Relay promises: each event that was committed to the outbox gets exactly one position and one sequence, events
// of one row in commit order; and it is handed to the bus at least once, unless the bus refuses it. What it does not
// promise: that the bus carries it. Replicas see that something is missing, and read the log.
package pg
