package api

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// admission counts connections, and says whether there may be one more. It is safe for concurrent use.
type admission struct {
	limits Limits

	mu    sync.Mutex
	open  int // guarded by mu, as all below
	ips   map[netip.Prefix]*visitor
	users map[string]*visitor
	swept time.Time
}

// visitor is an address or a user, with what it has open and how fast it may open more.
type visitor struct {
	open int
	rate *rate.Limiter
}

// sweepEvery is how often visitors are forgotten who have nothing open, and might open as many as anybody.
const sweepEvery = time.Minute

func newAdmission(limits Limits) *admission {
	return &admission{limits: limits, ips: make(map[netip.Prefix]*visitor), users: make(map[string]*visitor)}
}

// stay is what one client was admitted to, and has to give back. The zero value is nothing.
type stay struct {
	inside   bool
	ip, user *visitor
}

// enter admits a connection of an address, or names the limit that is reached. An invalid prefix is nobody's address,
// and counts for the replica alone.
func (a *admission) enter(ip netip.Prefix) (s stay, reached limit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep()
	if a.open >= a.limits.Connections {
		return stay{}, limitConnections
	}
	if ip.IsValid() {
		v := a.ips[ip]
		if v == nil {
			v = &visitor{rate: rate.NewLimiter(rate.Limit(a.limits.ConnectRatePerIP), int(2*a.limits.ConnectRatePerIP)+1)}
			a.ips[ip] = v
		}
		switch {
		case v.open >= a.limits.ConnectionsPerIP:
			return stay{}, limitPerIP
		case !v.rate.Allow():
			return stay{}, limitRatePerIP
		}
		v.open++
		s.ip = v
	}
	a.open++
	s.inside = true
	return s, ""
}

// attach admits a connection of a user, as enter does of an address, and adds it to the stay.
func (a *admission) attach(s *stay, user string) (reached limit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.user(user)
	switch {
	case v.open >= a.limits.ConnectionsPerUser:
		return limitPerUser
	case !v.rate.Allow():
		return limitRatePerUser
	}
	v.open++
	s.user = v
	return ""
}

// leave gives back what a stay has, which is nothing afterwards.
func (a *admission) leave(s *stay) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.inside {
		a.open--
	}
	for _, v := range []*visitor{s.ip, s.user} {
		if v != nil {
			v.open--
		}
	}
	*s = stay{}
}

// allow admits one more thing of a user that is counted by rate alone.
func (a *admission) allow(user string) (reached limit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep()
	if !a.user(user).rate.Allow() {
		return limitRatePerUser
	}
	return ""
}

// user returns the user's visitor. a.mu is held.
func (a *admission) user(user string) *visitor {
	v := a.users[user]
	if v == nil {
		v = &visitor{rate: rate.NewLimiter(rate.Limit(a.limits.ConnectRatePerUser), a.limits.ConnectionsPerUser)}
		a.users[user] = v
	}
	return v
}

// sweep forgets visitors of whom nothing needs to be known. a.mu is held.
func (a *admission) sweep() {
	now := time.Now()
	if now.Sub(a.swept) < sweepEvery {
		return
	}
	a.swept = now
	for ip, v := range a.ips {
		if v.idle(now) {
			delete(a.ips, ip)
		}
	}
	for user, v := range a.users {
		if v.idle(now) {
			delete(a.users, user)
		}
	}
}

func (v *visitor) idle(now time.Time) bool {
	return v.open == 0 && v.rate.TokensAt(now) >= float64(v.rate.Burst())
}

// suspectProxy says in the log, now and then, that an address which has reached a limit looks like that of a proxy.
func (s *Server) suspectProxy(r *http.Request, reached limit) {
	if reached != limitPerIP && reached != limitRatePerIP || r.Header.Get("X-Forwarded-For") == "" || !s.suspicions.Allow() {
		return
	}
	s.log.WarnContext(r.Context(), "an address that is no trusted proxy has reached a limit, and forwards for others: if it is your balancer, "+
		"name it in REELAY_TRUSTED_PROXIES", "peer", r.RemoteAddr, "limit", string(reached))
}

// clientAddress returns what connections of a client are counted under: address is the peer, or what trusted proxies
// say of it. A peer in a private network is most likely a balancer that nobody named as trusted: its clients cannot be
// told apart, and counted as one they would keep each other out. So it is nobody's address, unless it is known that
// there are no such balancers, which proxies being trusted says.
func clientAddress(address string, proxiesKnown bool) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	if !proxiesKnown && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
		return netip.Prefix{}
	}
	bits := 32
	if ip.Is6() {
		bits = 64 // what one subscriber gets
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
