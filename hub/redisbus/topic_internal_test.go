// Inside the package, to choose when Redis answers: the interleavings that matter are too rare to wait for.
package redisbus

import (
	"context"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/hub"
)

// noKey is for a bus that does not run.
func noKey(context.Context) ([]byte, error) { return nil, errNoSecret }

// model is a Redis that answers when the test says so, and what the callers of the bus know.
type model struct {
	bus      *Bus
	commands []string // sent, not executed; + or - and an owner
	answers  []string // executed, not received: channels
	at       map[hub.Owner]bool
	wanted   map[hub.Owner]bool
	waiting  map[hub.Owner][]<-chan struct{}
	left     map[hub.Owner]bool // Subscribe has returned before the confirmation, and Up has to wait for it
}

func (m *model) send() {
	subscribe, unsubscribe := m.bus.changes()
	for _, channel := range unsubscribe {
		m.commands = append(m.commands, "-"+channel)
	}
	for _, channel := range subscribe {
		m.commands = append(m.commands, "+"+channel)
	}
}

func (m *model) execute() {
	if len(m.commands) == 0 {
		return
	}
	channel := m.commands[0][1:]
	owner, _ := m.bus.names.owner(channel)
	m.at[owner] = strings.HasPrefix(m.commands[0], "+")
	m.answers = append(m.answers, channel)
	m.commands = m.commands[1:]
}

func (m *model) receive() {
	if len(m.answers) > 0 {
		m.bus.confirmed(m.answers[0])
		m.answers = m.answers[1:]
	}
}

// arrives says whether what is published for the owner now arrives, and goes on arriving whatever is under way.
func (m *model) arrives(owner hub.Owner) bool {
	for _, command := range m.commands {
		if command[1:] == m.bus.names.of(owner) {
			return false
		}
	}
	return m.at[owner]
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// An owner who leaves and comes back before Redis has answered at all: the first answer is not the one to wait for,
// since an UNSUBSCRIBE follows it.
func TestTopics_WaitForTheLastAnswer(t *testing.T) {
	t.Parallel()
	bus, err := New(Config{URL: "redis://localhost", Key: noKey})
	if err != nil {
		t.Fatal(err)
	}
	bus.attach(&receiving{kick: make(chan struct{}, 1)})
	bus.want("alice")
	bus.changes()
	bus.Unsubscribe("alice")
	bus.changes()
	ready, _ := bus.want("alice")
	bus.changes()
	for answer := 1; answer <= 3; answer++ {
		bus.confirmed(bus.names.of("alice"))
		if got, want := closed(ready), answer == 3; got != want {
			t.Errorf("after answer %d of 3 Subscribe may return: %t, want %t", answer, got, want)
		}
	}
}

// However subscribing, unsubscribing, commands, answers and lost connections follow each other: a Subscribe that
// returned is true, nobody waits in vain, Up waits for exactly what was left open, and in the end Redis has what the
// hub wants.
func TestTopics_AnyInterleaving(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bus, err := New(Config{URL: "redis://localhost", Key: noKey})
		if err != nil {
			t.Fatal(err)
		}
		m := &model{bus: bus, wanted: make(map[hub.Owner]bool), waiting: make(map[hub.Owner][]<-chan struct{})}
		connect := func() {
			bus.attach(&receiving{kick: make(chan struct{}, 1)})
			m.commands, m.answers, m.at = nil, []string{bus.names.control}, make(map[hub.Owner]bool)
			m.left = make(map[hub.Owner]bool)
			for owner := range m.wanted {
				m.left[owner] = true
			}
		}
		connect()
		someone := rapid.SampledFrom([]hub.Owner{"alice", "bob", "carol"})
		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				owner := someone.Draw(t, "owner")
				m.wanted[owner] = true
				ready, _ := bus.want(owner)
				if ready == nil && !m.arrives(owner) {
					t.Fatalf("Subscribe(%q) returned at once; nothing arrives", owner)
				}
				if ready != nil {
					m.waiting[owner] = append(m.waiting[owner], ready)
				}
			},
			"lose patience": func(t *rapid.T) {
				owner := someone.Draw(t, "owner")
				for _, ready := range m.waiting[owner] {
					if bus.owe(owner, ready) {
						m.left[owner] = true
					} else if !bus.up {
						t.Fatal("Subscribe may not return although the bus is not up")
					}
				}
			},
			"unsubscribe": func(t *rapid.T) {
				owner := someone.Draw(t, "owner")
				bus.Unsubscribe(owner)
				delete(m.wanted, owner)
				delete(m.left, owner)
				for _, ready := range m.waiting[owner] {
					if !closed(ready) {
						t.Fatalf("Subscribe(%q) waits on after Unsubscribe", owner)
					}
				}
				delete(m.waiting, owner)
			},
			"send":    func(*rapid.T) { m.send() },
			"execute": func(*rapid.T) { m.execute() },
			"receive": func(*rapid.T) { m.receive() },
			"mark": func(t *rapid.T) {
				if !bus.arise() {
					return
				}
				for owner := range m.left {
					if !m.arrives(owner) {
						t.Fatalf("Up, but nothing arrives for %q", owner)
					}
				}
			},
			"lose the connection": func(t *rapid.T) {
				bus.detach()
				for owner, list := range m.waiting {
					for _, ready := range list {
						if !closed(ready) {
							t.Fatalf("Subscribe(%q) waits on without a connection", owner)
						}
					}
				}
				clear(m.waiting)
				if rapid.Bool().Draw(t, "change while down") {
					owner := someone.Draw(t, "owner")
					if bus.Unsubscribe(owner); m.wanted[owner] {
						delete(m.wanted, owner)
					} else if ready, _ := bus.want(owner); ready == nil {
						m.wanted[owner] = true
					} else {
						t.Fatal("Subscribe waits without a connection")
					}
				}
				connect()
			},
			"": func(t *rapid.T) { // after each of the others
				for owner, list := range m.waiting {
					var still []<-chan struct{}
					for _, ready := range list {
						if !closed(ready) {
							still = append(still, ready)
						} else if !m.arrives(owner) {
							t.Fatalf("Subscribe(%q) returned; nothing arrives", owner)
						}
					}
					m.waiting[owner] = still
				}
			},
		})
		for range 3 { // everything comes to rest
			for m.send(); len(m.commands) > 0; {
				m.execute()
			}
			for len(m.answers) > 0 {
				m.receive()
			}
		}
		for owner, list := range m.waiting {
			for _, ready := range list {
				if !closed(ready) {
					t.Fatalf("Subscribe(%q) waits for ever", owner)
				}
			}
		}
		for _, owner := range []hub.Owner{"alice", "bob", "carol"} {
			if m.at[owner] != m.wanted[owner] || bus.wants(owner) != m.wanted[owner] {
				t.Fatalf("%q: at Redis %t, in the bus %t, wanted %t", owner, m.at[owner], bus.wants(owner), m.wanted[owner])
			}
		}
		if bus.owed != 0 || len(bus.topics) != len(m.wanted) || !bus.up && !bus.arise() {
			t.Fatalf("at rest: %d owed, %d topics for %d owners, up %t", bus.owed, len(bus.topics), len(m.wanted), bus.up)
		}
	})
}
