package hub_test

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/reelay/reelay/hub"
)

// answer counts a query, takes its answer, and waits while answers of its kind are held.
func (l *fakeLog) answer(ctx context.Context, kind string, take func()) error {
	l.mu.Lock()
	l.asking++
	hangs := l.hanging
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.asking--
		l.mu.Unlock()
	}()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := l.wait(ctx, "ask "+kind); err != nil {
		return err
	}
	l.mu.Lock()
	l.queries[kind]++
	failure := l.failure
	if first := l.failing[kind]; first > 0 && l.queries[kind] >= first {
		failure = errAway
	}
	take()
	l.mu.Unlock()
	err := l.wait(ctx, kind)
	if l.onAnswer != nil {
		err = errors.Join(err, l.onAnswer(ctx))
	}
	return errors.Join(err, failure)
}

// wait waits for what is held now.
func (l *fakeLog) wait(ctx context.Context, kind string) error {
	l.mu.Lock()
	holds := slices.Clone(l.holds[kind])
	if next := l.next[kind]; next != nil {
		holds = append(holds, next)
		delete(l.next, kind)
	}
	l.mu.Unlock()
	for _, held := range holds {
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *fakeLog) Read(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (page hub.Page, err error) {
	err = l.answer(ctx, "read", func() {
		h := l.history(owner)
		page.Log, page.Head = l.name, h.head
		for _, event := range h.events {
			if event.Sequence > after && len(page.Events) < limit {
				page.Events = append(page.Events, clone(event))
			}
			if event.Sequence > after && page.First == 0 {
				page.First = event.Sequence
			}
		}
	})
	return page, err
}

// Newest answers as Postgres does: the last event of each subject and topic.
func (l *fakeLog) Newest(ctx context.Context, owner hub.Owner, after hub.Sequence, limit int) (page hub.Page, err error) {
	err = l.answer(ctx, "newest", func() {
		h := l.history(owner)
		page.Log, page.Head = l.name, h.head
		last := make(map[string]hub.Sequence)
		for _, event := range h.events {
			if event.Sequence > after {
				if page.First == 0 {
					page.First = event.Sequence
				}
				last[topicOf(event)] = event.Sequence
			}
		}
		for _, event := range h.events {
			if event.Sequence > after && last[topicOf(event)] == event.Sequence && len(page.Events) < limit {
				page.Events = append(page.Events, clone(event))
			}
		}
	})
	return page, err
}

func topicOf(e *hub.Event) string {
	switch _, kind, _ := strings.Cut(e.Type, "."); kind {
	case "created", "updated", "deleted", "removed", "added":
		return e.Subject
	}
	return e.Subject + " " + e.Type
}

func (l *fakeLog) Snapshot(ctx context.Context, owner hub.Owner, keys []string) (snapshot hub.Snapshot, err error) {
	err = l.answer(ctx, "snapshot", func() {
		h := l.history(owner)
		snapshot.Log, snapshot.Head = l.name, h.head
		for _, row := range h.rows {
			if keys == nil || slices.Contains(keys, row.Key) {
				snapshot.Rows = append(snapshot.Rows, row)
			}
		}
		for _, event := range l.outbox {
			if event.Owner == owner {
				snapshot.Pending = append(snapshot.Pending, event.OutboxID)
			}
		}
	})
	return snapshot, err
}

func (l *fakeLog) Changes(ctx context.Context, after hub.Position) (heads hub.Heads, err error) {
	err = l.answer(ctx, "changes", func() {
		heads = hub.Heads{Log: l.name, Position: l.position, Sequences: make(map[hub.Owner]hub.Sequence)}
		for owner, h := range l.owners {
			if n := len(h.events); n > 0 && h.events[n-1].Position > after {
				heads.Sequences[owner] = h.head
			}
		}
	})
	return heads, err
}

func (l *fakeLog) Heads(ctx context.Context, owners []hub.Owner) (heads hub.Heads, err error) {
	kind := "heads"
	if len(owners) == 0 {
		kind = "position"
	}
	err = l.answer(ctx, kind, func() {
		heads = hub.Heads{Log: l.name, Position: l.position, Sequences: make(map[hub.Owner]hub.Sequence)}
		for _, owner := range owners {
			if h := l.owners[owner]; h != nil && h.head > 0 {
				heads.Sequences[owner] = h.head
			}
		}
	})
	return heads, err
}

// clone returns an event of its own: what is read twice, or read and received, is not the same in memory.
func clone(e *hub.Event) *hub.Event {
	return &hub.Event{
		Position: e.Position, Owner: e.Owner, Sequence: e.Sequence, OutboxID: e.OutboxID,
		Type: e.Type, Subject: e.Subject, Data: e.Data, Time: e.Time,
	}
}
