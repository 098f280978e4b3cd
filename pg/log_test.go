package pg_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reelay/reelay/hub"
	"github.com/reelay/reelay/pg"
)

// numbered is a log of 30 events: alice has those whose position divides by 3, bob the others.
const numbered = `
INSERT INTO reelay.log SELECT i, CASE WHEN i % 3 = 0 THEN 'alice' ELSE 'bob' END,
	CASE WHEN i % 3 = 0 THEN i / 3 ELSE i - i / 3 END, i + 100, 'v' || i % 4, 'video.updated', jsonb_build_object('n', i), '2026-11-22T10:00:00.123456Z'
	FROM generate_series(1, 30) i;
UPDATE reelay.state SET last_position = 30;
INSERT INTO reelay.owner_head VALUES ('alice', 10), ('bob', 20), ('carol', 5)`

// page is a page on one line: head, first, and the sequences.
func page(p hub.Page) string {
	var sequences []string
	for _, e := range p.Events {
		sequences = append(sequences, fmt.Sprint(e.Sequence))
	}
	return fmt.Sprintf("%d %d [%s]", p.Head, p.First, strings.Join(sequences, " "))
}

func TestLog_Read(t *testing.T) {
	t.Parallel()
	s := open(t, numbered)
	l := readLog(t, s.url)
	for _, test := range []struct {
		owner hub.Owner
		after hub.Sequence
		limit int
		want  string
	}{
		{"alice", 0, 100, "10 1 [1 2 3 4 5 6 7 8 9 10]"},
		{"alice", 0, 3, "10 1 [1 2 3]"},
		{"alice", 3, 3, "10 4 [4 5 6]"},
		{"alice", 9, 100, "10 10 [10]"},
		{"alice", 10, 100, "10 0 []"},
		{"alice", 11, 100, "10 0 []"}, // the future
		{"alice", 1<<63 - 1, 100, "10 0 []"},
		{"bob", 18, 100, "20 19 [19 20]"},
		{"carol", 0, 100, "5 0 []"}, // had events, and none is kept
		{"nobody", 0, 100, "0 0 []"},
		{"", 0, 100, "0 0 []"},
		{"' OR true --", 0, 100, "0 0 []"},
		{"alice\n", 0, 100, "0 0 []"},
	} {
		got, err := l.Read(t.Context(), test.owner, test.after, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		if page(got) != test.want {
			t.Errorf("%q after %d, at most %d: got %s, want %s", test.owner, test.after, test.limit, page(got), test.want)
		}
		if want := one[string](s, `SELECT log FROM reelay.state`); got.Log != want {
			t.Errorf("got the log %q, want %q", got.Log, want)
		}
	}
	got, err := l.Read(t.Context(), "alice", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := `6 alice 2 106 v2 video.updated {"n": 6} 2026-11-22T10:00:00.123456Z`; line(got.Events[0]) != want {
		t.Errorf("got %s, want %s", line(got.Events[0]), want)
	}
	// Everything, page by page, is everything once.
	var all []string
	for after := hub.Sequence(0); after < 20; {
		got, err := l.Read(t.Context(), "bob", after, 7)
		if err != nil || len(got.Events) == 0 {
			t.Fatal(after, err)
		}
		for _, e := range got.Events {
			all = append(all, fmt.Sprint(e.Sequence))
			after = e.Sequence
		}
	}
	if got := strings.Join(all, " "); got != "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20" {
		t.Errorf("page by page: got %s", got)
	}
}

func TestLog_Newest(t *testing.T) {
	t.Parallel()
	s := open(t, `
		INSERT INTO reelay.log SELECT n, 'alice', n, n, subject, type, NULL, now() FROM (VALUES
			(1, 'v1', 'video.created'), (2, 'v1', 'video.progress'), (3, 'v2', 'video.created'), (4, 'v1', 'video.updated'),
			(5, 'v1', 'video.progress'), (6, 'v2', 'video.deleted'), (7, 'v1', 'comment.posted'), (8, 'v3', 'video.added'),
			(9, 'v1', 'video.progress')) AS e (n, subject, type);
		UPDATE reelay.state SET last_position = 9;
		INSERT INTO reelay.owner_head VALUES ('alice', 9)`)
	l := readLog(t, s.url)
	for _, test := range []struct {
		after hub.Sequence
		limit int
		want  string
	}{
		{0, 100, "9 1 [4 6 7 8 9]"}, {0, 2, "9 1 [4 6]"}, {6, 100, "9 7 [7 8 9]"}, {9, 100, "9 0 []"}, {100, 100, "9 0 []"},
	} {
		got, err := l.Newest(t.Context(), "alice", test.after, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		if page(got) != test.want {
			t.Errorf("after %d, at most %d: got %s, want %s", test.after, test.limit, page(got), test.want)
		}
	}
	s.exec(`DELETE FROM reelay.log WHERE position < 5`)
	if got, err := l.Newest(t.Context(), "alice", 2, 100); err != nil || page(got) != "9 5 [6 7 8 9]" {
		t.Errorf("after the log was trimmed: got %s, %v; want 9 5 [6 7 8 9]", page(got), err)
	}
}

func TestLog_HeadsAndChanges(t *testing.T) {
	t.Parallel()
	s := open(t, numbered)
	l := readLog(t, s.url)
	name := one[string](s, `SELECT log FROM reelay.state`)
	check := func(what string, got hub.Heads, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got.Log != name || got.Position != 30 || fmt.Sprint(got.Sequences) != want {
			t.Errorf("%s: got %+v, want %s at position 30 of %s", what, got, want, name)
		}
	}
	ctx := t.Context()
	for _, test := range []struct {
		owners []hub.Owner
		want   string
	}{
		{[]hub.Owner{"alice", "carol", "nobody", "alice"}, "map[alice:10 carol:5]"}, {[]hub.Owner{"nobody"}, "map[]"}, {[]hub.Owner{}, "map[]"}, {nil, "map[]"},
	} {
		got, err := l.Heads(ctx, test.owners)
		check(fmt.Sprint(test.owners), got, err, test.want)
	}
	for after, want := range map[hub.Position]string{0: "map[alice:10 bob:20]", 27: "map[alice:10 bob:20]", 29: "map[alice:10]", 30: "map[]", 99: "map[]"} {
		got, err := l.Changes(ctx, after)
		check(fmt.Sprint("after ", after), got, err, want)
	}
}

// As what reelay serve is granted, and no more: everything it reads is readable, and a snapshot is too.
func TestLog_AsARoleOfItsOwn(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `INSERT INTO videos VALUES ('v1', 'alice')`)
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	b := &bus{}
	stand(t, login(s.url, role), b, "a")
	b.complete(s)
	l := readLog(t, login(s.url, role))
	ctx := t.Context()
	_, newest := l.Newest(ctx, "alice", 0, 10)
	_, heads := l.Heads(ctx, []hub.Owner{"alice"})
	_, changes := l.Changes(ctx, 0)
	read, err := l.Read(ctx, "alice", 0, 10)
	snapshot, snapshotErr := l.Snapshot(ctx, "alice", nil)
	if err := errors.Join(newest, heads, changes, err, snapshotErr, l.Check(ctx)); err != nil {
		t.Fatal(err)
	}
	if page(read) != "1 1 [1]" || len(snapshot.Rows) != 1 {
		t.Errorf("got %s and %d rows, want one event and one row", page(read), len(snapshot.Rows))
	}
}

func TestLog_ErrorsWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	l := readLog(t, "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable")
	ctx := t.Context()
	_, read := l.Read(ctx, "alice", 0, 10)
	_, newest := l.Newest(ctx, "alice", 0, 10)
	_, snapshot := l.Snapshot(ctx, "alice", nil)
	_, heads := l.Heads(ctx, nil)
	_, changes := l.Changes(ctx, 0)
	for i, err := range []error{read, newest, snapshot, heads, changes, l.Check(ctx)} {
		if err == nil || !pg.Transient(err) {
			t.Errorf("%d: got %v, want an error that may go away", i, err)
		}
	}
	// A caller who has left is not waited for, whether Log runs or not.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Read(gone, "alice", 0, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
