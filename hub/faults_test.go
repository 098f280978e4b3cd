package hub_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/hub"
)

// fail makes the log fail, or ends it.
func (m *model) fail(t *rapid.T) {
	if rapid.Bool().Draw(t, "fail") {
		m.log.fail(errAway)
	} else {
		m.log.fail(nil)
	}
}

// hang makes a black hole of the log, or ends that.
func (m *model) hang(t *rapid.T) { m.log.hang(rapid.Bool().Draw(t, "hang")) }

// honest checks that what sessions are told of the log is what Ready says, and true: with as much delay as is promised
// where it answers nothing, which is worse than an error.
func (m *model) honest(*rapid.T) {
	const soon, patience = 5 * time.Second, 15 * time.Second
	synctest.Wait()
	m.log.mu.Lock()
	readable := m.log.failure == nil && !m.log.hanging
	m.log.mu.Unlock()
	if readable != m.readable {
		m.readable, m.since = readable, time.Now()
	}
	ready, news := m.hub.Ready(context.Background()), m.news.Load()
	switch lasts := time.Since(m.since); {
	case m.told.Load() != (ready == nil):
		m.Fatalf("sessions were told that the log is available: %v; Ready says %v", m.told.Load(), ready)
	case !readable && lasts > soon && ready == nil:
		m.Fatalf("the log has been unreadable for %v, and nobody says so", lasts)
	case readable && lasts > patience && ready != nil:
		m.Fatalf("the log has been readable for %v, and Ready says %v", lasts, ready)
	case readable && lasts > patience && m.calmed && news != m.knew:
		m.Fatalf("the log has been readable for %v, and sessions are told that it is not", lasts)
	default:
		m.calmed, m.knew = readable && lasts > patience, news
	}
}

// slowDown has the log's answers arrive late from now on: what was asked before and after happens meanwhile.
func (m *model) slowDown(t *rapid.T) {
	m.delay.Store(int64(rapid.SampledFrom([]time.Duration{0, 10 * time.Millisecond, 400 * time.Millisecond}).Draw(t, "delay")))
}

// trim drops events up to a position. Retention is longer than a faithful bus is away: it keeps what the hub has not
// heard of.
func (m *model) trim(t *rapid.T) {
	synctest.Wait()
	most := m.log.position
	if m.faithful {
		most = min(most, hub.Position(m.value("reelay_hub_position")))
	}
	upTo := hub.Position(rapid.Int64Range(0, int64(most)).Draw(t, "up to"))
	m.log.trim(upTo)
	if m.trimmed[m.log.name] == nil {
		m.trimmed[m.log.name] = make(map[hub.Owner]hub.Sequence)
	}
	for owner, h := range m.log.owners {
		m.trimmed[m.log.name][owner] = h.trimmed
	}
}

// rename makes the log another one, which may lack the last events of the one before. Its leader is a new one.
func (m *model) rename(t *rapid.T) {
	if time.Since(m.renamed) < time.Second {
		t.Skip("once in a while")
	}
	synctest.Wait()
	before := m.log.name
	lacking := min(len(m.events), rapid.IntRange(0, 3).Draw(t, "lacking"))
	for lacking > 0 && m.isTrimmed(m.events[len(m.events)-lacking]) {
		lacking--
	}
	m.renames++
	m.log.rename(fmt.Sprint("log", m.renames), hub.Position(lacking))
	m.events = m.events[:len(m.events)-lacking]
	for _, event := range m.events {
		m.remember(m.log.name, event)
	}
	m.trimmed[m.log.name] = maps.Clone(m.trimmed[before])
	m.published = min(m.published, m.log.position)
	m.leading, m.renamed = false, time.Now()
}

func (m *model) isTrimmed(event *hub.Event) bool {
	return event.Sequence <= m.log.owners[event.Owner].trimmed
}

// pick returns a follower that is as asked for.
func (m *model) pick(t *rapid.T, is func(*follower) bool) *follower {
	var some []*follower
	for _, f := range m.followers {
		if f.attaching != nil {
			f.look()
		}
		if f.attaching == nil && is(f) {
			some = append(some, f)
		}
	}
	if len(some) == 0 {
		t.Skip("there is none")
	}
	return rapid.SampledFrom(some).Draw(t, "follower")
}

// come has a follower attach: with its cursor, or for a snapshot.
func (m *model) come(t *rapid.T) {
	f := m.pick(t, func(f *follower) bool { return f.c == nil })
	f.come(rapid.Bool().Draw(t, "snapshot"))
}

// leave has a follower go away. It keeps its cursor.
func (m *model) leave(t *rapid.T) {
	m.pick(t, func(f *follower) bool { return f.c != nil }).leave()
}

// drain has a follower take what there is for it. Until then it is slow.
func (m *model) drain(t *rapid.T) {
	m.pick(t, func(f *follower) bool { return f.placed }).drain()
}

func (m *model) pass(t *rapid.T) {
	pass(rapid.SampledFrom([]time.Duration{time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond, time.Second, 4 * time.Second}).Draw(t, "time"))
}

// calm lets time pass without a fault, until some of the followers must be complete.
func (m *model) calm(of func(*follower) bool) {
	some := slices.DeleteFunc(slices.Clone(m.followers), func(f *follower) bool { return !of(f) })
	enough := 5 * time.Second // the pauses between tries that failed are over
	if !m.faithful {
		enough += reconcileEvery
	}
	for begin := time.Now(); time.Since(begin) < enough; pass(time.Second) {
		m.lead(m.t)
		m.hand(m.flight...)
		m.flight = nil
		for _, f := range some {
			if f.attaching == nil && f.c == nil {
				f.come(false)
			}
			f.drain()
		}
	}
	for _, f := range some {
		f.drain()
		f.complete()
	}
}

// settle ends all faults and checks that everybody gets everything: soon, or where the bus was not faithful when the
// hub has reconciled.
func (m *model) settle() {
	m.log.fail(nil)
	m.log.hang(false)
	m.delay.Store(0)
	pass(10 * time.Second) // what is asked and never answered is given up
	if !m.connected {
		m.upOrDown(m.t)
	}
	m.calm(func(f *follower) bool { return f.c != nil || f.attaching != nil }) // first those who are there: who comes reads the log
	m.calm(func(*follower) bool { return true })
	if repairs := m.value("reelay_hub_repairs_total"); m.faithful && repairs > 0 {
		m.Fatalf("only reconciliation found what %v feeds lacked, though the bus was faithful", repairs)
	}
}
