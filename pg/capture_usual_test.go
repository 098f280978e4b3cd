package pg_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// usualColumns are columns of all types that the short way of a trigger knows, and values that they may have.
var usualColumns = []struct {
	name, kind string
	values     []string
}{
	{"processing_status", "varchar", []string{"NULL", "''", "'new'", "'ready'", "'Ready'", `E'"\\\n\x01é'`}},
	{"title", "text", []string{"NULL", "''", "'one'", "repeat('x', 10000)", "repeat(chr(1), 100000)", "repeat('x', 1100000)"}},
	{"state", "state", []string{"NULL", "'queued'", "'done'"}},
	{"n", "integer", []string{"NULL", "0", "1", "-2147483648"}},
	{"small", "smallint", []string{"NULL", "0", "32767"}},
	{"big", "bigint", []string{"NULL", "0", "9223372036854775807"}},
	{"ratio", "real", []string{"NULL", "0", "'-0'", "1.5e-30", "'NaN'", "'-Infinity'"}},
	{"score", "double precision", []string{"NULL", "0", "'-0'", "1e300", "'NaN'", "'Infinity'"}},
	{"public", "boolean", []string{"NULL", "true", "false"}},
	{"ticket", "uuid", []string{"NULL", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"}},
	{"day", "date", []string{"NULL", "'2026-11-23'", "'infinity'", "'4713-01-01 BC'", "'5874897-12-31'"}},
	{"hour", "time", []string{"NULL", "'24:00'", "'10:00:00.000001'"}},
	{"local", "timestamp", []string{"NULL", "'2026-11-23 10:00'", "'-infinity'", "'294276-12-31 23:59:59.999999'", "'4713-01-01 BC'"}},
	{"moment", "timestamptz", []string{"NULL", "'2026-11-23 10:00Z'", "'infinity'", "'294276-12-31 23:59:59.999999Z'", "'4713-01-01 BC'"}},
}

// openWide makes a table of these columns, and watches it: some columns for changes, all of them as payload.
func openWide(t *testing.T, watch string) *session {
	t.Helper()
	columns, payload := []string{"id text PRIMARY KEY", "user_id text"}, []string(nil)
	for _, c := range usualColumns {
		columns, payload = append(columns, c.name+" "+c.kind), append(payload, c.name)
	}
	s := open(t, `CREATE TYPE state AS ENUM ('queued', 'done'); CREATE TABLE videos (`+strings.Join(columns, ", ")+`)`)
	s.exec(`SELECT reelay.watch('videos', columns => $1::name[], payload => $2::name[])`, watch, payload)
	s.exec(`INSERT INTO videos (id, user_id) VALUES ('v1', 'alice')`)
	s.outbox()
	return s
}

// The short way is for changes that nearly all are, and the long one can do them as well.
func TestCapture_TheShortWaySaysWhatTheLongOneSays(t *testing.T) {
	t.Parallel()
	for _, watch := range []string{"{n}", "{state}", "{processing_status,title,state,n,ratio,moment}"} {
		t.Run(watch, func(t *testing.T) {
			t.Parallel()
			bothWays(t, openWide(t, watch))
		})
	}
}

// bothWays changes a row at random, and has the long way make each event a second time.
func bothWays(t *testing.T, s *session) {
	t.Helper()
	s.exec(`CREATE FUNCTION long_way() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM reelay.capture_any_1(TG_OP, OLD, NEW); RETURN NULL; END$$`)
	s.exec(one[string](s, `SELECT replace(replace(pg_get_triggerdef(oid), '"00_reelay_update"', 'second'), 'reelay.capture_1()', 'long_way()')
		FROM pg_trigger WHERE tgname = '00_reelay_update'`))
	random := rand.New(rand.NewPCG(1, 1))
	pick := func(values []string) string { return values[random.IntN(len(values))] }
	events := 0
	for range 300 {
		var set []string
		for _, c := range usualColumns {
			if random.IntN(4) == 0 {
				set = append(set, c.name+" = "+pick(c.values))
			}
		}
		switch random.IntN(8) {
		case 0:
			set = append(set, "user_id = "+pick([]string{"NULL", "''", "'alice'", "'Alice'", "repeat('u', 256)", "repeat('u', 257)"}))
		case 1:
			set = append(set, "id = "+pick([]string{"''", "'v1'", "'v2'"}))
		}
		if len(set) == 0 {
			continue
		}
		s.exec(fmt.Sprintf("SET timezone = '%s'", pick([]string{"UTC", "Asia/Kathmandu", "Etc/GMT+12", "Etc/GMT-14"})))
		update := "UPDATE videos SET " + strings.Join(set, ", ")
		s.exec(update)
		got := s.outbox()
		if half := len(got) / 2; !slices.Equal(got[:half], got[half:]) {
			t.Fatalf("%s:\n short %s\n  long %s", update, got[:half], got[half:])
		}
		events += len(got)
	}
	if events < 100 {
		t.Errorf("only %d events were made", events)
	}
}

// Which way is gone shows where the long one is closed.
func TestCapture_WhatGoesTheShortWay(t *testing.T) {
	t.Parallel()
	s := openWide(t, "{n}")
	const closed = `CREATE OR REPLACE FUNCTION reelay.capture_any_1(op text, old record, new record) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'the long way'; END$$`
	s.exec(`ALTER TABLE videos ADD turn integer; SELECT reelay.watch('videos', columns => '{turn}', payload => (SELECT payload FROM reelay.watched))`)
	s.exec(closed)
	for _, c := range usualColumns {
		for _, value := range c.values {
			if !strings.Contains(value, "00000)") { // these are too large
				s.exec(`UPDATE videos SET turn = coalesce(turn, 0) + 1, ` + c.name + " = " + value)
			}
		}
	}
	for _, set := range []string{
		"user_id = 'bob'", "user_id = NULL", "id = 'v2'", "turn = 0, title = repeat('x', 1100000)", "turn = 0, processing_status = repeat(chr(1), 100000)",
	} {
		if got := s.refused("UPDATE videos SET " + set); !strings.Contains(got, "the long way") {
			t.Errorf("%s: got %s", set, got)
		}
	}
}

// The short way has the search_path of whoever writes, so nothing may come along it whose code somebody else wrote, or
// looks for what it needs by a name; nor what could be too large.
func TestCapture_WhatGoesTheLongWay(t *testing.T) {
	t.Parallel()
	s := open(t, `CREATE TYPE state AS ENUM ('queued', 'done'); CREATE DOMAIN title AS text; CREATE TYPE pair AS (a int, b int);
		CREATE FUNCTION to_json(state) RETURNS json LANGUAGE sql AS 'SELECT NULL::json'; CREATE CAST (state AS json) WITH FUNCTION to_json(state);
		CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	way := func(id, owner, column string) bool {
		s.exec(fmt.Sprintf(`CREATE TABLE videos (id %s PRIMARY KEY, user_id %s, processing_status %s)`, id, owner, column))
		s.exec(`SELECT reelay.watch('videos')`)
		defer s.exec(`SELECT reelay.unwatch('videos'); DROP TABLE videos`)
		return one[bool](s, `SELECT reelay.usual_change(id, reelay.columns_now(id)) IS NOT NULL FROM reelay.watched`)
	}
	if !way("text", "uuid", "text") || !way("bigint", "varchar", "integer") {
		t.Error("these go the short way")
	}
	for _, kind := range []string{"title", "numeric", "char(5)", "text COLLATE anycase", "state", "date"} {
		if way(kind, "text", "text") || way("text", kind, "text") {
			t.Errorf("%s as key or owner goes the short way", kind)
		}
	}
	for _, kind := range []string{"title", "numeric", "char(5)", "jsonb", "text[]", "pair", "state", "int4range", "bytea", "name", "inet"} {
		if way("text", "text", kind) {
			t.Errorf("a column of %s goes the short way", kind)
		}
	}
}
