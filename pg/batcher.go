package pg

import (
	"context"
	"errors"
	"time"
)

const (
	// gatherFor is how long a lane waits in a storm for more callers.
	gatherFor = 25 * time.Millisecond
	// crowd is how many callers in gatherFor make a storm.
	crowd = 16
)

// batcher answers many callers by few queries. While a lane is busy with one, callers gather; the lane that is free
// next takes all of them, and while there is a storm it waits for more, however quick the database. So a lone caller waits
// for nothing, and a storm of them makes queries larger, not more.
type batcher[Request, Answer any] struct {
	run     func(context.Context, []Request) ([]Answer, error)
	waiting chan *call[Request, Answer]

	turn  chan struct{} // holds something while a lane gathers: one at a time does, and uses what follows
	since time.Time     // when counting callers began
	count int           // of callers since then
	storm bool          // they came as quickly as a crowd does, when last looked at
}

type call[Request, Answer any] struct {
	request Request
	answer  Answer
	err     error
	done    chan struct{}
}

func newBatcher[Request, Answer any](run func(context.Context, []Request) ([]Answer, error)) *batcher[Request, Answer] {
	// The channel's room lets callers gather while no lane receives. When it is full, callers wait to be let in.
	return &batcher[Request, Answer]{run: run, waiting: make(chan *call[Request, Answer], batchMost), turn: make(chan struct{}, 1)}
}

// ask returns the answer to one request.
func (b *batcher[Request, Answer]) ask(ctx context.Context, request Request) (Answer, error) {
	c := &call[Request, Answer]{request: request, done: make(chan struct{})}
	var none Answer
	select {
	case b.waiting <- c:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// work is one lane's life. It ends with ctx.
func (b *batcher[Request, Answer]) work(ctx context.Context) {
	for ctx.Err() == nil {
		if calls := b.gather(ctx); len(calls) > 0 {
			b.answer(ctx, calls)
		}
	}
}

// gather takes the callers of the next query. It returns none when ctx ends before there is one.
func (b *batcher[Request, Answer]) gather(ctx context.Context) (calls []*call[Request, Answer]) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	select {
	case c := <-b.waiting:
		calls = append(calls, c)
	case <-ctx.Done():
		return nil
	}
	if passed := min(time.Since(b.since), time.Second); passed >= gatherFor {
		b.storm = time.Duration(b.count)*gatherFor >= crowd*passed
		b.since, b.count = time.Now(), 0
	}
	if b.storm {
		calls = b.await(ctx, calls)
	}
	for len(b.waiting) > 0 && len(calls) < batchMost {
		calls = append(calls, <-b.waiting) // no other lane takes any meanwhile
	}
	b.count += len(calls)
	return calls
}

// await takes more callers for gatherFor, or until the query is full.
func (b *batcher[Request, Answer]) await(ctx context.Context, calls []*call[Request, Answer]) []*call[Request, Answer] {
	over := time.NewTimer(gatherFor)
	defer over.Stop()
	for len(calls) < batchMost {
		select {
		case c := <-b.waiting:
			calls = append(calls, c)
		case <-over.C:
			return calls
		case <-ctx.Done():
			return calls
		}
	}
	return calls
}

func (b *batcher[Request, Answer]) answer(ctx context.Context, calls []*call[Request, Answer]) {
	requests := make([]Request, len(calls))
	for i, c := range calls {
		requests[i] = c.request
	}
	limited, cancel := context.WithTimeout(ctx, queryLimit)
	answers, err := b.run(limited, requests)
	cancel()
	if err == nil && len(answers) != len(calls) {
		err = errors.New("the query answered another number of requests")
	}
	if half := len(calls) / 2; half > 0 && refused(err) {
		// One of them asks for what no query can answer, and the others must not suffer for it. Each half has its own time.
		b.answer(ctx, calls[:half])
		b.answer(ctx, calls[half:])
		return
	}
	for i, c := range calls {
		if c.err = err; err == nil {
			c.answer = answers[i]
		}
		close(c.done)
	}
}
