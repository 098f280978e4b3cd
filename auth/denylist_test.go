package auth_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/auth"
)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func TestDenylist_Check(t *testing.T) {
	t.Parallel()
	month := noon.Add(30 * 24 * time.Hour)
	half := noon.Add(500 * time.Millisecond)
	alice := []auth.Revocation{{User: "alice", At: half, Until: month, Reason: "stolen laptop"}}
	token := []auth.Revocation{{TokenID: "t-1", At: noon, Until: month}}
	issued := func(user string, at time.Time, id string) auth.Principal {
		return auth.Principal{User: user, Issued: at, Expires: noon.Add(time.Hour), TokenID: id}
	}
	tests := []struct {
		name    string
		list    []auth.Revocation
		who     auth.Principal
		revoked bool
	}{
		{"nothing revoked", nil, issued("alice", noon, "t-1"), false},
		{"issued before", alice, issued("alice", noon.Add(-time.Hour), ""), true},
		{"issued in the same second, before", alice, issued("alice", noon, ""), true},
		{"issued in the same second, after", alice, issued("alice", half.Add(400*time.Millisecond), ""), true},
		{"issued in the next second", alice, issued("alice", noon.Add(time.Second), ""), false},
		{"issued in 1970", alice, issued("alice", time.Unix(0, 0), ""), true},
		{"issued nobody knows when", alice, issued("alice", time.Time{}, ""), true},
		{"another user", alice, issued("Alice", noon.Add(-time.Hour), ""), false},
		{"another user, issued nobody knows when", alice, issued("bob", time.Time{}, ""), false},
		{"token", token, issued("alice", noon.Add(time.Minute), "t-1"), true},
		{"another token of the user", token, issued("alice", noon.Add(-time.Hour), "t-2"), false},
		{"token without an id", token, issued("alice", noon, ""), false},
		{"a user called like a token", token, issued("t-1", noon, "alice"), false},
		{"a token called like a user", alice, issued("bob", noon, "alice"), false},
		{"both set", []auth.Revocation{{User: "alice", TokenID: "t-1", At: noon, Until: month}}, issued("bob", month, "t-1"), true},
		{"neither set", []auth.Revocation{{At: noon, Until: month}}, issued("", noon, ""), false},
		{"over", []auth.Revocation{{User: "alice", At: noon, Until: noon}}, issued("alice", noon, ""), false},
		{"without an end", []auth.Revocation{{User: "alice", At: noon}}, issued("alice", noon, ""), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			denylist := auth.NewDenylist(atNoon)
			for _, revocation := range test.list {
				denylist.Add(revocation)
			}
			if err := denylist.Check(test.who); errors.Is(err, auth.ErrRevokedToken) != test.revoked || (err == nil) == test.revoked {
				t.Errorf("got %v, want revoked: %v", err, test.revoked)
			}
		})
	}
}

func TestDenylist_ForgetsWhatIsOver(t *testing.T) {
	t.Parallel()
	time1 := &clock{noon}
	denylist := auth.NewDenylist(time1.read)
	old := auth.Principal{User: "alice", Issued: noon.Add(-time.Minute), TokenID: "t-1"}
	denylist.Add(auth.Revocation{TokenID: "t-1", Until: noon.Add(time.Hour)})
	denylist.Add(auth.Revocation{User: "alice", At: noon, Until: noon.Add(2 * time.Hour)})
	for n := range 100 {
		denylist.Add(auth.Revocation{User: fmt.Sprint(n), At: noon, Until: noon.Add(time.Minute)})
	}
	if got := denylist.Len(); got != 102 {
		t.Errorf("got %d, want 102", got)
	}
	time1.now = noon.Add(time.Hour)
	if err := denylist.Check(auth.Principal{User: "bob", TokenID: "t-1"}); err != nil {
		t.Errorf("the token, at the end of its time: %v", err)
	}
	if err := denylist.Check(old); err == nil {
		t.Error("the user is let in before the end")
	}
	denylist.Add(auth.Revocation{User: "carol", At: noon, Until: noon.Add(3 * time.Hour)})
	if got := denylist.Len(); got != 2 {
		t.Errorf("got %d after an hour, want alice and carol", got)
	}
	time1.now = noon.Add(2 * time.Hour)
	if err := denylist.Check(old); err != nil {
		t.Errorf("the user, at the end of the time: %v", err)
	}
	time1.now = noon.Add(-time.Hour) // set back
	denylist.Add(auth.Revocation{User: "dave", At: noon, Until: noon})
	if err := denylist.Check(auth.Principal{User: "dave", Issued: noon}); err == nil {
		t.Error("a revocation after the clock was set back is not in force")
	}
}

// Whatever is added in whatever order, the list decides as if each were asked by itself.
func TestDenylist_IsTheSumOfItsRevocations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		time1 := &clock{noon}
		denylist := auth.NewDenylist(time1.read)
		second := rapid.Int64Range(-200, 200)
		var all []auth.Revocation
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			time1.now = time1.now.Add(time.Duration(rapid.Int64Range(0, 20).Draw(t, "passes")) * time.Second)
			r := auth.Revocation{
				At:    noon.Add(time.Duration(second.Draw(t, "at")) * time.Second),
				Until: noon.Add(time.Duration(second.Draw(t, "until")) * time.Second),
			}
			if rapid.Bool().Draw(t, "token") {
				r.TokenID = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "id")
			} else {
				r.User = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "user")
			}
			denylist.Add(r)
			all = append(all, r)
			who := auth.Principal{
				User:    rapid.SampledFrom([]string{"x", "y"}).Draw(t, "who"),
				TokenID: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "their token"),
			}
			if rapid.Bool().Draw(t, "has iat") {
				who.Issued = noon.Add(time.Duration(second.Draw(t, "issued")) * time.Second)
			}
			want := false
			for _, r := range all {
				ofUser := r.User == who.User && (who.Issued.IsZero() || !who.Issued.After(r.At))
				ofToken := r.TokenID != "" && r.TokenID == who.TokenID
				want = want || time1.now.Before(r.Until) && (ofUser || ofToken)
			}
			if err := denylist.Check(who); (err != nil) != want {
				t.Fatalf("%+v at %v: got %v, want revoked: %v\n%+v", who, time1.now, err, want, all)
			}
		}
	})
}

// Meaningful under -race.
func TestDenylist_ConcurrentUse(t *testing.T) {
	t.Parallel()
	denylist := auth.NewDenylist(nil)
	until := time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	for i := range 8 {
		user := fmt.Sprint("user-", i)
		wg.Go(func() {
			for n := range 200 {
				denylist.Add(auth.Revocation{User: user, At: time.Unix(int64(n), 0), Until: until})
				if err := denylist.Check(auth.Principal{User: user, Issued: time.Unix(int64(n), 0)}); err == nil {
					t.Errorf("%s, second %d: let in", user, n)
				}
				_ = denylist.Len()
			}
		})
	}
	wg.Wait()
	if got := denylist.Len(); got != 8 {
		t.Errorf("got %d entries, want one for each user", got)
	}
}

func BenchmarkDenylist(b *testing.B) {
	denylist := auth.NewDenylist(nil)
	for n := range 10_000 {
		denylist.Add(auth.Revocation{User: fmt.Sprint(n), At: time.Now(), Until: time.Now().Add(time.Hour)})
	}
	who := auth.Principal{User: "5000", Issued: time.Now().Add(time.Minute)}
	b.ReportAllocs()
	for b.Loop() {
		if err := denylist.Check(who); err != nil {
			b.Fatal(err)
		}
	}
}
