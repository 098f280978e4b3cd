package hub_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/hub"
)

// model is a whole deployment with one replica: writers, leaders that come and go, a bus with messages under way, a
// log that fails, is slow, is trimmed and becomes another one, and followers. Whatever happens in which order, each
// follower gets the events after its place, once and in order, or hears that its place is gone.
//
// A faithful bus keeps to its contract: what it loses, a mark shows. Then everybody has everything within moments. An
// unfaithful one loses and reorders what it likes; then it may take until reconciliation.
type model struct {
	*world

	t         *rapid.T
	faithful  bool
	connected bool         // the bus carries
	flight    []message    // under way on the bus
	past      []message    // was delivered
	delay     atomic.Int64 // how long the log takes to answer
	told      atomic.Bool  // the last news: the log is available
	since     time.Time    // when the log became readable, or ceased to be
	readable  bool
	news      atomic.Int64 // how often sessions were told
	knew      int64        // how often when last looked at
	calmed    bool         // by then the log had been readable for long

	epoch     hub.Epoch
	leading   bool         // the leader of this epoch is there
	published hub.Position // the durable mark
	stale     []hub.Batch  // numbered by leaders that died before they published it
	events    []*hub.Event // of the log, by position, trimmed or not
	renames   int          // how often the log became another one
	renamed   time.Time    // when it last did

	ids       map[hub.Cursor]map[hub.Owner]int64               // the outbox id of every event there ever was
	trimmed   map[string]map[hub.Owner]hub.Sequence            // how far each log was trimmed
	subjects  map[int64]string                                 // of events, by outbox id
	newest    map[string]map[hub.Owner]map[string]hub.Sequence // the last event of each subject in each log
	followers []*follower
}

// message is an event or a mark.
type message struct {
	log   string
	epoch hub.Epoch
	event *hub.Event
	mark  hub.Mark
}

func TestHub_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			m := newModel(t)
			t.Repeat(map[string]func(*rapid.T){
				"commit": m.commit, "lead": m.lead, "die": m.die, "take over": m.takeOver, "publish late": m.publishLate,
				"deliver": m.deliver, "lose": m.lose, "repeat": m.repeat, "reorder": m.reorder,
				"up or down": m.upOrDown, "up in the midst": m.upInTheMidst, "leak a mark": m.leakMark,
				"fail": m.fail, "hang": m.hang, "slow down": m.slowDown, "trim": m.trim, "rename": m.rename,
				"come": m.come, "go": m.leave, "drain": m.drain, "pass": m.pass,
				"": m.honest,
			})
			m.settle()
		})
	})
}

func newModel(t *rapid.T) *model {
	m := &model{
		readable: true, t: t, faithful: rapid.Bool().Draw(t, "faithful"), connected: true, epoch: 1, leading: true,
		ids: make(map[hub.Cursor]map[hub.Owner]int64), trimmed: make(map[string]map[hub.Owner]hub.Sequence),
		subjects: make(map[int64]string), newest: make(map[string]map[hub.Owner]map[string]hub.Sequence),
	}
	m.told.Store(true)
	m.since = time.Now()
	m.world = newWorld(t, func(w *world) {
		w.tell = func(available bool) { m.told.Store(available); m.news.Add(1) }
		w.log.onAnswer = func(ctx context.Context) error {
			select {
			case <-time.After(time.Duration(m.delay.Load())):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	for n := range 8 {
		f := &follower{m: m, owner: []hub.Owner{"alice", "bob", "carol"}[n%3], options: hub.Options{Conflate: n > 5}}
		m.followers = append(m.followers, f)
	}
	for _, f := range m.followers[:5] {
		f.come(true)
	}
	t.Cleanup(func() {
		for _, f := range m.followers {
			f.leave()
		}
	})
	return m
}

func (m *model) commit(t *rapid.T) {
	owner := rapid.SampledFrom([]hub.Owner{"alice", "alice", "bob", "carol"}).Draw(t, "owner")
	subject := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "subject")
	if rapid.IntRange(0, 9).Draw(t, "delete") == 0 {
		m.log.commit(owner, subject, nil)
		return
	}
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 5, 300}).Draw(t, "times") {
		m.log.commit(owner, subject, fmt.Appendf(nil, `{"n":%d}`, m.log.lastID))
	}
}

// number gives positions to what is committed.
func (m *model) number() hub.Batch {
	batch := m.log.number(m.epoch)
	for _, event := range batch.Events {
		m.remember(batch.Log, event)
	}
	m.events = append(m.events, batch.Events...)
	return batch
}

func (m *model) remember(log string, event *hub.Event) {
	cursor := hub.Cursor{Log: log, Sequence: event.Sequence}
	if m.ids[cursor] == nil {
		m.ids[cursor] = make(map[hub.Owner]int64)
	}
	m.ids[cursor][event.Owner] = event.OutboxID
	m.subjects[event.OutboxID] = event.Subject
	if m.newest[log] == nil {
		m.newest[log] = make(map[hub.Owner]map[string]hub.Sequence)
	}
	if m.newest[log][event.Owner] == nil {
		m.newest[log][event.Owner] = make(map[string]hub.Sequence)
	}
	m.newest[log][event.Owner][event.Subject] = event.Sequence
}

// send puts a batch on its way, if the bus carries.
func (m *model) send(batch hub.Batch) {
	if !m.connected {
		return
	}
	for _, event := range batch.Events {
		m.flight = append(m.flight, message{log: batch.Log, epoch: batch.Epoch, event: event})
	}
	m.sendMark(batch)
}

func (m *model) sendMark(batch hub.Batch) {
	mark := hub.Mark{Log: batch.Log, Epoch: batch.Epoch, From: batch.From, Head: batch.Head}
	m.flight = append(m.flight, message{log: batch.Log, epoch: batch.Epoch, mark: mark})
}

// lead is one round of the leader: it numbers and publishes, or says that there is nothing.
func (m *model) lead(t *rapid.T) {
	if !m.leading {
		m.takeOver(t)
	}
	batch := m.number()
	m.send(batch)
	m.published = batch.Head
}

// die is a leader that numbers, and dies before it publishes.
func (m *model) die(*rapid.T) {
	if m.leading {
		m.stale = append(m.stale, m.number())
		m.leading = false
	}
}

// takeOver is a new leader, which publishes again from the mark.
func (m *model) takeOver(*rapid.T) {
	m.epoch++
	m.leading = true
	head := m.log.position
	m.send(hub.Batch{Log: m.log.name, Epoch: m.epoch, From: m.published, Head: head, Events: m.events[m.published:head]})
	m.send(hub.Batch{Log: m.log.name, Epoch: m.epoch, From: head, Head: head})
	m.published = head
}

// publishLate is a leader that was thought dead.
func (m *model) publishLate(t *rapid.T) {
	if len(m.stale) == 0 {
		t.Skip("nobody is late")
	}
	m.send(rapid.SampledFrom(m.stale).Draw(t, "batch"))
}

func (m *model) hand(some ...message) {
	for _, msg := range some {
		m.past = append(m.past, msg)
		batch := hub.Batch{Log: msg.log, Epoch: msg.epoch, From: msg.mark.From, Head: msg.mark.Head}
		if msg.event == nil {
			m.bus.mark(batch)
		} else {
			batch.Events = []*hub.Event{msg.event}
			m.bus.events(batch)
		}
	}
	if len(m.past) > 20 {
		m.past = m.past[len(m.past)-20:]
	}
}

// deliver brings some of what is under way, and lets everybody do what is to be done or not even begin with it.
func (m *model) deliver(t *rapid.T) {
	if len(m.flight) == 0 {
		t.Skip("nothing is under way")
	}
	n := rapid.IntRange(1, len(m.flight)).Draw(t, "messages")
	m.hand(m.flight[:n]...)
	m.flight = m.flight[n:]
	if rapid.Bool().Draw(t, "wait") {
		synctest.Wait()
	}
}

// lose loses something of what is under way. A faithful bus that loses an event also loses the mark that speaks for it.
func (m *model) lose(t *rapid.T) {
	if len(m.flight) == 0 {
		t.Skip("nothing is under way")
	}
	i := rapid.IntRange(0, len(m.flight)-1).Draw(t, "message")
	if m.faithful {
		isMark := func(msg message) bool { return msg.event == nil }
		if mark := slices.IndexFunc(m.flight[i:], isMark); mark > 0 {
			m.flight = slices.Delete(m.flight, i+mark, i+mark+1)
		}
	}
	m.flight = slices.Delete(m.flight, i, i+1)
}

func (m *model) repeat(t *rapid.T) {
	if len(m.past) == 0 || !m.connected {
		t.Skip("nothing to repeat")
	}
	m.hand(rapid.SampledFrom(m.past).Draw(t, "message"))
}

// reorder swaps two messages. A faithful bus never lets a mark overtake an event.
func (m *model) reorder(t *rapid.T) {
	if len(m.flight) < 2 {
		t.Skip("nothing to reorder")
	}
	i := rapid.IntRange(1, len(m.flight)-1).Draw(t, "message")
	if m.faithful && (m.flight[i].event == nil || m.flight[i-1].event == nil) {
		t.Skip("not of a faithful bus")
	}
	m.flight[i], m.flight[i-1] = m.flight[i-1], m.flight[i]
}

func (m *model) upOrDown(*rapid.T) {
	m.connected = !m.connected
	if m.connected {
		m.bus.up()
	} else {
		m.flight = nil
		m.bus.down(errAway)
	}
}

// upInTheMidst has the bus come up while a batch is published: its events are lost, its mark is not.
func (m *model) upInTheMidst(t *rapid.T) {
	if m.connected || !m.leading {
		t.Skip("the bus is up")
	}
	batch := m.number()
	m.published = batch.Head
	m.connected = true
	m.bus.up()
	m.sendMark(batch)
	if rapid.Bool().Draw(t, "at once") {
		m.hand(m.flight...)
		m.flight = nil
	}
}

// leakMark has a mark arrive while the bus is about to come up.
func (m *model) leakMark(t *rapid.T) {
	if m.connected || !m.leading {
		t.Skip("the bus is up")
	}
	batch := m.number()
	m.published = batch.Head
	m.bus.mark(batch)
}
