package api

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		proxies bool
		want    string // empty: nobody's
	}{
		{"203.0.113.7", false, "203.0.113.7/32"},
		{"::ffff:203.0.113.7", false, "203.0.113.7/32"},
		{"2001:db8:1:2:3:4:5:6", false, "2001:db8:1:2::/64"},
		{"10.0.0.1", false, ""},
		{"127.0.0.1", false, ""},
		{"::1", false, ""},
		{"fe80::1%eth0", false, ""},
		{"fd00::1", false, ""},
		{"10.0.0.1", true, "10.0.0.1/32"},
		{"127.0.0.1", true, "127.0.0.1/32"},
		{"", true, ""},
		{"pipe", true, ""},
	} {
		got := clientAddress(c.address, c.proxies)
		if got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
			t.Errorf("clientAddress(%q, %v): got %v, want %q", c.address, c.proxies, got, c.want)
		}
	}
}

func limitsForTest() Limits {
	return Limits{Connections: 4, ConnectionsPerUser: 2, ConnectionsPerIP: 3, ConnectRatePerIP: 4, ConnectRatePerUser: 1}
}

func TestAdmission_CountsReplicaAddressAndUser(t *testing.T) {
	t.Parallel()
	a := newAdmission(limitsForTest())
	one, two := netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("203.0.113.2/32")
	enter := func(ip netip.Prefix, want limit) stay {
		t.Helper()
		s, got := a.enter(ip)
		if got != want {
			t.Fatalf("enter %v with %d open: got limit %q, want %q", ip, a.open, got, want)
		}
		return s
	}
	first := enter(one, "")
	enter(one, "")
	enter(one, "")
	enter(one, limitPerIP)
	enter(two, "")
	enter(netip.Prefix{}, limitConnections)
	a.leave(&first)
	a.leave(&first) // a second time is none
	enter(netip.Prefix{}, "")
	enter(two, limitConnections)

	attach := func(user string, want limit) (s stay) {
		t.Helper()
		if got := a.attach(&s, user); got != want {
			t.Fatalf("attach %s: got limit %q, want %q", user, got, want)
		}
		return s
	}
	alice := attach("alice", "")
	attach("alice", "")
	attach("alice", limitPerUser)
	attach("bob", "") // is not kept out by alice
	a.leave(&alice)
	attach("alice", limitRatePerUser) // a third within a second
}

func TestAdmission_RatesAndForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(limitsForTest())
		ip := netip.MustParsePrefix("203.0.113.1/32")
		let := 0
		for range 100 {
			if s, l := a.enter(ip); l == "" {
				let++
				a.leave(&s)
			}
		}
		if let != 9 {
			t.Errorf("an address that may begin 4 in a second began %d at once, want 9", let)
		}
		var bob, alice stay
		a.attach(&bob, "bob") // stays
		a.attach(&alice, "alice")
		a.leave(&alice)
		<-time.After(2 * sweepEvery)
		if s, l := a.enter(netip.Prefix{}); l == "" {
			a.leave(&s)
		}
		if len(a.ips) != 0 || len(a.users) != 1 {
			t.Errorf("after two minutes it remembers %d addresses and %d users, want 0 and the one that is connected", len(a.ips), len(a.users))
		}
	})
}
