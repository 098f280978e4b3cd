// Package local starts private servers on this machine, as children of this process: Postgres and Redis for tests,
// and the same two and everything else for cmd/devstack. It needs no root, no container and no running service, and it
// works beside a Postgres or Redis that the machine runs anyway: each server has a folder, a socket and a free port of
// its own.
//
// # What it promises
//
//   - A Start function returns when the server answers, or with an error that holds the end of what the server said.
//     Its context bounds the start alone; the server lives until Stop.
//   - Ctrl-C in a terminal reaches only this process: each child leads a process group of its own.
//   - No child outlives this process, however it ends; see forker and guard.
//   - A folder left behind by a process that was killed is removed by the next one that starts a server.
//
// # What it does not promise
//
// The servers listen on 127.0.0.1 and ask for no password, so every user of this machine can use them. They are for
// development, never for data that matters.
package local
