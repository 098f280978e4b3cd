package pg_test

import (
	"fmt"
	"strings"
	"testing"
)

// An owner that no token can name has nobody to be told, and that is no error of the writer's.
func TestCapture_AnOwnerWhomNoTokenCanNameGetsNothing(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	long := strings.Repeat("é", 128) // 256 bytes
	s.exec(`INSERT INTO videos VALUES ('v1', NULL), ('v2', ''), ('v3', $1 || 'x'), ('v4', $1)`, long)
	s.captures(long + ` v4 video.created {"processing_status": "pending"}`)
	s.exec(`UPDATE videos SET processing_status = 'ready' WHERE id < 'v4'`)
	s.exec(`UPDATE videos SET user_id = user_id || 'x' WHERE id IN ('v3', 'v4')`)
	s.captures(long + ` v4 video.removed`)
	s.exec(`UPDATE videos SET user_id = 'alice'`)
	s.captures(
		`alice v1 video.added {"processing_status": "ready"}`, `alice v2 video.added {"processing_status": "ready"}`,
		`alice v3 video.added {"processing_status": "ready"}`, `alice v4 video.added {"processing_status": "pending"}`,
	)
	s.exec(`UPDATE videos SET user_id = ''`)
	s.captures(`alice v1 video.removed`, `alice v2 video.removed`, `alice v3 video.removed`, `alice v4 video.removed`)
	s.exec(`DELETE FROM videos WHERE id = 'v1'; TRUNCATE videos`)
	s.captures()
	if got := s.snapshot(""); len(got) != 0 {
		t.Errorf("a snapshot for the empty owner: %v", got)
	}
}

func TestCapture_AnyTypeOfKeyAndOwner(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TYPE colour AS ENUM ('red', 'blue')`, `CREATE DOMAIN uid AS text CHECK (value ~ '^u_')`, `CREATE DOMAIN number AS bigint CHECK (value > 0)`)
	for i, test := range []struct{ kind, value, text, other, stranger string }{
		{"text", `'a b'`, "a b", `'c'`, "a"},
		{"varchar(5)", `'abcde'`, "abcde", `'x'`, "abcdef"},
		{"char(5)", `'abc'`, "abc", `'x'`, "abc  "},
		{"uuid", `'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'`, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "gen_random_uuid()", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
		{"bigint", "-7", "-7", "8", "-07"},
		{"int", "7", "7", "8", "99999999999999999999"},
		{"smallint", "7", "7", "8", "70000"},
		{"numeric", "1.0", "1.0", "1.00", "1"},
		{"date", `'2026-11-22'`, "2026-11-22", `'2026-11-23'`, "yesterday"},
		{"inet", `'10.0.0.1'`, "10.0.0.1/32", `'10.0.0.2'`, "10.0.0.1"},
		{"colour", `'red'`, "red", `'blue'`, "green"},
		{"uid", `'u_1'`, "u_1", `'u_2'`, "alice"},
		{"number", "5", "5", "6", "-5"},
	} {
		table := fmt.Sprintf("t%d", i)
		s.exec(fmt.Sprintf(`CREATE TABLE %[1]s (id %[2]s PRIMARY KEY, user_id %[2]s, processing_status text); SELECT reelay.watch('%[1]s')`, table, test.kind))
		s.exec(fmt.Sprintf(`INSERT INTO %s VALUES (%s, %[2]s, 'new')`, table, test.value))
		s.exec(fmt.Sprintf(`UPDATE %s SET processing_status = 'ready'`, table))
		same(t, test.kind+" snapshot", s.snapshot(test.text), []string{test.text + ` {"processing_status": "ready"}`})
		for _, stranger := range []string{test.stranger, "alice", "", "' OR true --", "0", "1e400", strings.Repeat("9", 256)} {
			if got := s.snapshot(stranger); len(got) != 0 {
				t.Errorf("%s: a snapshot for %q has %v", test.kind, stranger, got)
			}
		}
		s.exec(fmt.Sprintf(`UPDATE %s SET user_id = %s`, table, test.other))
		got := s.outbox()
		if len(got) != 4 {
			t.Fatalf("%s: got %v, want four events", test.kind, got)
		}
		same(t, test.kind, got[:3], []string{
			test.text + " " + test.text + ` video.created {"processing_status": "new"}`,
			test.text + " " + test.text + ` video.updated {"previous": {"processing_status": "new"}, "processing_status": "ready"}`,
			test.text + " " + test.text + ` video.removed`,
		})
		s.exec("DROP TABLE " + table)
	}
}

// A collation without regard to case says that alice is Alice. They are two users all the same.
func TestCapture_OwnersAreComparedByTheirBytes(t *testing.T) {
	t.Parallel()
	s := open(t)
	if !one[bool](s, `SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')`) {
		t.Skip("this Postgres is built without ICU, and so has no such collations")
	}
	s.exec(`
		CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE videos (id text COLLATE anycase PRIMARY KEY, user_id text COLLATE anycase, processing_status text);
		SELECT reelay.watch('videos');
		INSERT INTO videos VALUES ('v1', 'Alice', 'new')`)
	same(t, "Alice's snapshot", s.snapshot("Alice"), []string{`v1 {"processing_status": "new"}`})
	same(t, "alice's snapshot", s.snapshot("alice"), nil)
	s.exec(`UPDATE videos SET user_id = 'alice'`)
	s.exec(`UPDATE videos SET id = 'V1'`)
	s.captures(
		`Alice v1 video.created {"processing_status": "new"}`,
		`Alice v1 video.removed`, `alice v1 video.added {"processing_status": "new"}`,
		`alice v1 video.deleted`, `alice V1 video.created {"processing_status": "new"}`,
	)
}

// Names are quoted wherever they are used, and so are the words of the code that is generated.
func TestCapture_NamesOfAnyKind(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i, name := range []string{
		"MixedCase", "select", "two words", `double"quote`, "single'quote", "percent%s%I", "dollar$body$", "dollar$capture$",
		"new\nline; DROP TABLE x; --", "ROW.", "NEW.", "data", "owner", "written", "key", "ünïcode", strings.Repeat("x", 63), `back\slash`, "--", "/*",
	} {
		quoted := quote(name)
		table := "public." + quoted
		if i%2 == 0 {
			s.exec("CREATE SCHEMA " + quoted)
			table = quoted + "." + quoted
		}
		// Key, owner and status in turn have the odd name.
		for odd := range 3 {
			columns := []string{"id", "user_id", "processing_status"}
			columns[odd] = name
			in := strings.NewReplacer("VIDEOS", table, "KEY", quote(columns[0]), "OWNER", quote(columns[1]), "STATUS", quote(columns[2]))
			s.exec(in.Replace(`CREATE TABLE VIDEOS (KEY text, OWNER text, STATUS text, title text)`))
			s.exec(`SELECT reelay.watch($1, key => $2, owner => $3, columns => $4)`, table, columns[0], columns[1], columns[2:])
			s.exec(in.Replace(`INSERT INTO VIDEOS VALUES ('v1', 'alice', 'new')`))
			s.exec(in.Replace(`UPDATE VIDEOS SET STATUS = 'ready' WHERE KEY = 'v1'`))
			same(t, name, s.lines(`SELECT key || ' ' || (data->>$1) FROM reelay.snapshot('alice', NULL, 10)`, columns[2]), []string{"v1 ready"})
			s.exec("TRUNCATE " + table)
			same(t, name, s.lines(`
				WITH taken AS (DELETE FROM reelay.outbox RETURNING *)
				SELECT concat_ws(' ', owner, subject, type, data->>$1, data->'previous'->>$1) FROM taken ORDER BY id`, columns[2]), []string{
				"alice v1 video.created new", "alice v1 video.updated ready new", "alice v1 video.deleted",
			})
			s.exec(`SELECT reelay.unwatch($1)`, table)
			s.exec("DROP TABLE " + table)
		}
	}
}

// quote makes an identifier of a name.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
