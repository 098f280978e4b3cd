package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// singleWriters is how many connections commit single rows.
	singleWriters = 32
	// bulkWriters is how many connections commit many rows at a time.
	bulkWriters = 4
	// bulkRows is how many rows such a commit changes: of as many users.
	bulkRows = 100
)

// commit is one transaction: it writes its number into the rows of some videos.
type commit struct {
	number int64
	videos []int
}

// load is a way to write. Its writers start at the same time, and each has a connection of its own.
type load struct {
	url     string
	ledger  *ledger
	writers int
	// pick returns the videos that a writer changes next, each time others than another writer may change at that
	// time. It may return the same slice again.
	pick func(writer, n int) []int
	// statement, if it is not empty, is executed instead, for the first of the videos, whose id is put behind it. The
	// ledger's numbers are not written then.
	statement string
	// perSecond is how many commits there are, over all writers; 0 for as many as there can be.
	perSecond float64
	// begin is called before each commit, may make it wait, and reports false when there has to be no other; nil for
	// always.
	begin func(c commit) bool

	// after is called after each commit; nil for nothing.
	after func(c commit) error

	conns []*pgx.Conn
}

// oneRow picks a video at random.
func oneRow(l *ledger) func(int, int) []int {
	return func(int, int) []int { return []int{rand.IntN(l.rows())} }
}

// manyRows picks size videos of as many users, in turns. Writers never pick the same: they would wait for each other,
// and for good if two of them took the same rows in another order. users must be a multiple of size.
func manyRows(l *ledger, writers, size int) func(int, int) []int {
	groups := len(l.entries) / size // of users
	chunks := groups * l.each
	return func(writer, n int) []int {
		chunk := (n*writers + writer) % (chunks - chunks%writers)
		group, video := chunk%groups, chunk/groups
		picked := make([]int, size)
		for i := range picked {
			picked[i] = (group*size+i)*l.each + video
		}
		return picked
	}
}

// connect connects the writers. run does it where it was not done.
func (l *load) connect(ctx context.Context) error {
	for len(l.conns) < l.writers {
		conn, err := pgx.Connect(ctx, l.url)
		if err != nil {
			return fmt.Errorf("connect a writer: %w", err)
		}
		l.conns = append(l.conns, conn)
	}
	return nil
}

// warmUp is how often each connection commits before it is measured: Postgres plans a statement anew five times.
const warmUp = 8

// warm connects the writers and has each commit a few times: a new session reads the catalog, compiles the trigger's
// function and makes plans, which applications, who keep their connections, pay once. What is committed is in the ledger.
func (l *load) warm(ctx context.Context) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, l.writers)
	for i, conn := range l.conns {
		wg.Go(func() {
			for n := range warmUp {
				if err := l.write(ctx, conn, commit{number: l.ledger.next(), videos: l.pick(i, n)}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs // nil if there is none
}

// close ends the writers' connections. It comes after the last look at what they used: a session that ends takes its
// CPU time out of sight for a moment.
func (l *load) close(ctx context.Context) {
	for _, conn := range l.conns {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	l.conns = nil
}

// run writes for a time, and returns how many commits there were in how long. It may be called again, until close.
func (l *load) run(ctx context.Context, d time.Duration) (commits int64, took time.Duration, err error) {
	if err := l.connect(ctx); err != nil {
		return 0, 0, err
	}
	var wg sync.WaitGroup
	var turns, done atomic.Int64
	errs := make(chan error, l.writers)
	begun := time.Now()
	for i, conn := range l.conns {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if !l.wait(ctx, begun, turns.Add(1)-1, d) {
					return
				}
				c := commit{number: l.ledger.next(), videos: l.pick(i, n)}
				if l.begin != nil && !l.begin(c) {
					return
				}
				if err := l.write(ctx, conn, c); err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took = time.Since(begun)
	close(errs)
	for err := range errs {
		return 0, 0, err
	}
	return done.Load(), took, ctx.Err()
}

// wait waits for the time of a turn. Times are fixed beforehand: one that is late does not move those after it. It
// reports false when the time is over.
func (l *load) wait(ctx context.Context, begun time.Time, turn int64, d time.Duration) bool {
	if l.perSecond > 0 {
		due := time.Duration(float64(turn) / l.perSecond * float64(time.Second))
		if due >= d {
			return false
		}
		if early := time.Until(begun.Add(due)); early > 0 {
			pause(ctx, early)
		}
		return ctx.Err() == nil && time.Since(begun) < 2*d // a rate that cannot be kept shall not take forever
	}
	return time.Since(begun) < d
}

func (l *load) write(ctx context.Context, conn *pgx.Conn, c commit) error {
	var err error
	var done pgconn.CommandTag
	switch {
	case l.statement != "":
		done, err = conn.Exec(ctx, l.statement+"$1", "v"+strconv.Itoa(c.videos[0]))
	case len(c.videos) == 1:
		done, err = conn.Exec(ctx, "UPDATE videos SET progress = $1 WHERE id = $2", c.number, "v"+strconv.Itoa(c.videos[0]))
	default:
		ids := make([]string, len(c.videos))
		for i, video := range c.videos {
			ids[i] = "v" + strconv.Itoa(video)
		}
		done, err = conn.Exec(ctx, "UPDATE videos SET progress = $1 WHERE id = ANY ($2)", c.number, ids)
	}
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if n := done.RowsAffected(); n != int64(len(c.videos)) {
		return fmt.Errorf("update %d videos: there were %d", len(c.videos), n)
	}
	for _, video := range c.videos {
		l.ledger.committed(video, c.number)
	}
	if l.after != nil {
		return l.after(c)
	}
	return nil
}
