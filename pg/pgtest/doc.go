// Package pgtest gives each test a Postgres database of its own, with the schema reelay in it.
//
// One private server per test process is started when the first test asks, and stopped by Main. A database is cloned
// from a migrated template, which takes some 30 ms, and isolates advisory locks and NOTIFY as well. A test that stops,
// kills or reconfigures Postgres takes a server of its own; one that needs a bad network puts a Proxy before it.
//
// With -short the tests that ask for a database are skipped. Otherwise a machine without Postgres fails them.
package pgtest
