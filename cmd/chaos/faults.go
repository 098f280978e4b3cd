package main

import (
	"context"
	"errors"
	"time"
)

// fault is one thing that goes wrong, and what must hold then.
type fault struct {
	number int
	name   string
	title  string
	// limit is within what all must have recovered; 0 where that cannot be said as one time.
	limit time.Duration
	// counts says from what the limit counts.
	counts string
	// resets says that sessions may lose their places, and have to be told then.
	resets bool
	// rehearsed says that it is played once more, before the replicas are looked at for the first time. The runtime never
	// frees its notes on goroutines, of which there are most while a herd arrives: what one leaves is no leak, and what
	// each leaves is.
	rehearsed bool
	play      func(context.Context, *episode) error
	// missing says why it cannot be played at all.
	missing string
}

// errSkipped is in the error of a fault that this machine cannot play.
var errSkipped = errors.New("skipped")

// faults are all there are. The numbers stay the same for ever; reports refer to them.
var faults = []fault{
	{number: 1, name: "leader-killed", title: "leader killed", limit: time.Second, counts: "its death", play: leaderKilled},
	{number: 2, name: "leader-frozen", title: "leader frozen, then thawed", limit: 6 * time.Second, counts: "its freezing", play: leaderFrozen},
	{number: 3, name: "leader-no-postgres", title: "leader's link to Postgres dead", limit: 6 * time.Second, counts: "the cable's being pulled", play: leaderWithoutPostgres},
	{number: 4, name: "leader-no-redis", title: "leader's link to Redis dead", limit: 5 * time.Second, counts: "the link's death", play: leaderWithoutRedis},
	{number: 5, name: "redis-killed", title: "Redis killed, restarted empty", limit: 2 * time.Second, counts: "its restart", play: redisKilled},
	{number: 6, name: "redis-frozen", title: "Redis frozen", limit: 2 * time.Second, counts: "its thaw", play: redisFrozen},
	{number: 7, name: "replica-no-redis", title: "a replica cut off from Redis", limit: 3 * time.Second, counts: "the link's healing", play: replicaWithoutRedis},
	{number: 8, name: "replica-dropped", title: "Redis drops a slow replica", limit: 2 * time.Second, counts: "its being dropped", play: replicaDropped},
	{number: 9, name: "postgres-restart", title: "Postgres restarted, fast and immediate", limit: 3 * time.Second, counts: "its being ready", play: postgresRestarted},
	{number: 10, name: "failover", title: "Postgres failed over, transactions lost", limit: 5 * time.Second, counts: "its taking writes", resets: true, play: failedOver},
	{number: 11, name: "follower-killed", title: "follower with many clients killed", limit: 5 * time.Second, counts: "its death", play: followerKilled},
	{number: 12, name: "rolling-restart", title: "rolling restart (longest silence)", limit: 2 * time.Second, counts: "the last event before", play: rollingRestart},
	{number: 13, name: "leader-terminated", title: "leader's session terminated", limit: 2 * time.Second, counts: "its end", play: leaderTerminated},
	{number: 14, name: "clock-off", title: "a clock ten minutes off", play: clockWrong},
	{number: 15, name: "slow-client", title: "a client never reads, burst of events", limit: 10 * time.Second, counts: "the burst to the client's being cut off", play: slowClient},
	{number: 16, name: "postgres-full", title: "all Postgres connections taken", limit: 3 * time.Second, counts: "their being free", play: postgresFull},
	{number: 17, name: "late-commit", title: "transaction open across many others", limit: time.Second, counts: "its commit", play: lateCommit},
	{number: 18, name: "log-trimmed", title: "resumption from before a trim", resets: true, play: logTrimmed},
	{number: 19, name: "jwks-down", title: "JWKS endpoint down, keys rotated", limit: 10 * time.Second, counts: "its being back", play: keysAway},
	{number: 20, name: "herd", title: "all clients come back at once", limit: 10 * time.Second, counts: "their coming", rehearsed: true, play: herdReturns},
}
