package redisbus

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/reelay/reelay/hub"
)

// The names are shared with replicas of other builds, so they may not change.
func TestNames_AreFixed(t *testing.T) {
	t.Parallel()
	n := newNames("reelay")
	if n.control != "reelay:{0}:control" {
		t.Errorf("the control channel is %s", n.control)
	}
	for owner, want := range map[hub.Owner]string{
		"alice": "reelay:{4}:o:YWxpY2U",
		"bob":   "reelay:{7}:o:Ym9i",
		"":      "reelay:{9}:o:",
		"*":     "reelay:{9}:o:Kg",
		"\xff?": "reelay:{8}:o:_z8",
	} {
		if got := n.of(owner); got != want {
			t.Errorf("the channel of %q is %s, want %s", owner, got, want)
		}
	}
}

// Two owners never share a channel, and a channel says whose it is.
func TestNames_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNames(rapid.StringMatching(`[a-zA-Z0-9._:-]{1,64}`).Draw(t, "prefix"))
		if !validPrefix(n.prefix) {
			t.Fatalf("the prefix %q is refused", n.prefix)
		}
		owner := hub.Owner(rapid.SliceOf(rapid.Byte()).Draw(t, "owner"))
		if got, ok := n.owner(n.of(owner)); !ok || got != owner {
			t.Fatalf("%s is the channel of %q, want %q", n.of(owner), got, owner)
		}
		if n.of(owner) == n.control {
			t.Fatalf("the control channel is an owner's: %q", owner)
		}
	})
}

func TestNames_OwnerOfOtherChannels(t *testing.T) {
	t.Parallel()
	n := newNames("reelay")
	for _, channel := range []string{
		"", "reelay", n.control, "other:{4}:o:YWxpY2U", "reelay:{b}:o:YWxpY2U",
		"reelay:{4}:o:YWxpY2U=", "reelay:{4}:p:YWxpY2U", "reelay:{4}:o:YWxpY2V", "reelay:{4}:o:!", "reelay:{4}:o:YWxpY2U\n",
	} {
		if owner, ok := n.owner(channel); ok {
			t.Errorf("%q is the channel of %q", channel, owner)
		}
	}
}

// No hash tag gets much more than its share, whatever the ids look like.
func TestNames_HashTagsSpread(t *testing.T) {
	t.Parallel()
	const n = 16_000
	for _, format := range []string{"%d", "user_%06d", "%08x-0000-4000-8000-000000000000", "%d0"} {
		var tags [16]int
		for i := range n {
			tags[hashTag(hub.Owner(fmt.Sprintf(format, i)))]++
		}
		for tag, got := range tags {
			if got < n/16*8/10 || got > n/16*12/10 {
				t.Errorf("%q: tag %x has %d of %d owners", format, tag, got, n)
			}
		}
	}
}
