package auth

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Revocation takes back tokens that were issued: all of a user, or one. Exactly one of User and TokenID is set; with
// both set, both are revoked.
type Revocation struct {
	// User is the user id whose tokens are refused if they were issued at At or before.
	User string
	// TokenID is the jti of the token that is refused, whenever it was issued.
	TokenID string
	// At is when it was revoked, by the clock of whoever revoked.
	At time.Time
	// Until is when the revocation is over and forgotten. It should lie behind the end of every token that it is about.
	Until time.Time
	// Reason is for logs and may be empty. It decides nothing.
	Reason string
}

// sweepInterval is how often Add forgets what is over.
const sweepInterval = time.Minute

// Denylist holds what was revoked. It is safe for concurrent use. Make it with NewDenylist.
//
// Tokens are told apart by whole seconds, as iat has them: a token issued in the second of the revocation is refused,
// for it may have been issued before. iat comes from the issuer's clock and At from another, so that a token which an
// issuer whose clock is ahead made just before the revocation is not known to be one.
type Denylist struct {
	now func() time.Time

	mu     sync.RWMutex
	users  map[string][]ban     // guarded by mu; those of a user are neither over nor contained in one another
	tokens map[string]time.Time // until when; guarded by mu
	swept  time.Time            // guarded by mu
}

// ban refuses the tokens of a user issued at the second at or before, until then.
type ban struct {
	at    int64
	until time.Time
}

// contains reports whether all that other refuses, and for as long, b refuses as well.
func (b ban) contains(other ban) bool { return b.at >= other.at && !b.until.Before(other.until) }

// NewDenylist makes a list that holds nothing. now is the clock; time.Now when nil.
func NewDenylist(now func() time.Time) *Denylist {
	if now == nil {
		now = time.Now
	}
	return &Denylist{now: now, users: make(map[string][]ban), tokens: make(map[string]time.Time)}
}

// Add puts r on the list. One that is over, or that the list contains already, changes nothing.
func (d *Denylist) Add(r Revocation) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.swept).Abs() >= sweepInterval { // Abs: a clock may be set back
		d.sweep(now)
	}
	if !now.Before(r.Until) {
		return
	}
	if r.TokenID != "" && d.tokens[r.TokenID].Before(r.Until) {
		d.tokens[r.TokenID] = r.Until
	}
	if r.User == "" {
		return
	}
	added := ban{at: r.At.Unix(), until: r.Until}
	bans := d.users[r.User]
	if slices.ContainsFunc(bans, func(b ban) bool { return b.contains(added) }) {
		return
	}
	// As a rule the newer contains the older, so that a user has one.
	bans = slices.DeleteFunc(bans, func(b ban) bool { return added.contains(b) || !now.Before(b.until) })
	d.users[r.User] = append(bans, added)
}

// Check returns an error that wraps ErrRevokedToken if the token of p was revoked, and nil otherwise. A token without
// iat is refused while any revocation of its user is in force, since it may be older.
func (d *Denylist) Check(p Principal) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if len(d.users) == 0 && len(d.tokens) == 0 {
		return nil
	}
	now := d.now()
	if until, listed := d.tokens[p.TokenID]; listed && p.TokenID != "" && now.Before(until) {
		return fmt.Errorf("%w: by its jti", ErrRevokedToken)
	}
	for _, b := range d.users[p.User] {
		if !now.Before(b.until) {
			continue
		}
		if p.Issued.IsZero() {
			return fmt.Errorf("%w: its user was disconnected, and without iat it may be from before", ErrRevokedToken)
		}
		if p.Issued.Unix() <= b.at {
			return fmt.Errorf("%w: its user was disconnected after it was issued", ErrRevokedToken)
		}
	}
	return nil
}

// Len returns how many users and tokens are on the list, those included that are over and not yet forgotten.
func (d *Denylist) Len() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.users) + len(d.tokens)
}

// sweep forgets what is over. It is called with mu held.
func (d *Denylist) sweep(now time.Time) {
	d.swept = now
	for id, until := range d.tokens {
		if !now.Before(until) {
			delete(d.tokens, id)
		}
	}
	for user, bans := range d.users {
		if bans = slices.DeleteFunc(bans, func(b ban) bool { return !now.Before(b.until) }); len(bans) == 0 {
			delete(d.users, user)
		} else {
			d.users[user] = bans
		}
	}
}
