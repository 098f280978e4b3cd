package api

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ticketsMost is how many tickets memory holds: at the rate that fills it, someone is making tickets for their own sake.
const ticketsMost = 100_000

// memoryTickets is a TicketStore for a replica that is the only one.
type memoryTickets struct {
	mu      sync.Mutex
	tickets map[string]kept // guarded by mu
}

type kept struct {
	value []byte
	until time.Time
}

func newMemoryTickets() *memoryTickets { return &memoryTickets{tickets: make(map[string]kept)} }

var errTooManyTickets = errors.New("too many tickets are unused")

// Put implements TicketStore.
func (m *memoryTickets) Put(_ context.Context, id string, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.tickets) >= ticketsMost {
		return errTooManyTickets
	}
	m.tickets[id] = kept{value, time.Now().Add(ttl)}
	time.AfterFunc(ttl, func() { m.forget(id) })
	return nil
}

// Take implements TicketStore.
func (m *memoryTickets) Take(_ context.Context, id string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.tickets[id]
	delete(m.tickets, id)
	if time.Now().After(k.until) {
		return nil, nil
	}
	return k.value, nil
}

func (m *memoryTickets) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tickets, id)
}
