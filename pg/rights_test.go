package pg_test

import (
	"strings"
	"testing"

	"github.com/reelay/reelay/pg"
	"github.com/reelay/reelay/pg/pgtest"
)

// A writer needs rights on its own table, and none on the schema reelay; and it gets none.
func TestRights_AWriterNeedsNone(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `SELECT reelay.emit('carol', 'v0', 'video.progress')`)
	role := s.role("")
	s.exec(`GRANT ALL ON videos TO ` + role)
	writer := s.as(role)
	writer.exec(`INSERT INTO videos VALUES ('v1', 'alice'), ('v2', 'alice')`)
	writer.exec(`UPDATE videos SET processing_status = 'ready' WHERE id = 'v1'`)
	writer.exec(`UPDATE videos SET user_id = 'bob' WHERE id = 'v1'`)
	writer.exec(`DELETE FROM videos WHERE id = 'v2'`)
	writer.exec(`TRUNCATE videos`)
	same(t, "captured", s.lines(`SELECT concat_ws(' ', owner, type) FROM reelay.outbox ORDER BY id`), []string{
		"carol video.progress", "alice video.created", "alice video.created", "alice video.updated", "alice video.removed",
		"bob video.added", "alice video.deleted", "bob video.deleted",
	})
	// Not even with the schema open to it.
	s.exec(`GRANT USAGE ON SCHEMA reelay TO ` + role)
	for _, sql := range []string{
		`SELECT * FROM reelay.outbox`, `SELECT * FROM reelay.log`, `SELECT * FROM reelay.log_0`, `SELECT * FROM reelay.state`,
		`SELECT * FROM reelay.owner_head`, `SELECT * FROM reelay.watched`, `SELECT * FROM reelay.awake`, `SELECT * FROM reelay.outbox_id_seq`,
		`INSERT INTO reelay.outbox (owner, subject, type) VALUES ('bob', 'v1', 'video.created')`, `DELETE FROM reelay.outbox`,
		`UPDATE reelay.state SET epoch = 99`, `SELECT setval('reelay.awake', 1)`, `SELECT nextval('reelay.outbox_id_seq')`,
		`CREATE TABLE reelay.mine ()`, `CREATE FUNCTION reelay.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
		`SELECT * FROM reelay.snapshot('bob', NULL, 10)`, `SELECT * FROM reelay.snapshot_1('bob', NULL, 10)`,
		`SELECT reelay.watch('videos')`, `SELECT reelay.unwatch('videos')`, `SELECT reelay.trim_log('0')`, `SELECT reelay.extend_log()`,
		`SELECT reelay.grant_serve('` + role + `')`, `SELECT reelay.history()`, `SELECT reelay.is_owner('x')`, `SELECT reelay.max_data()`,
		`SELECT reelay.emit('bob', 'v1', 'video.progress')`,
		`CREATE TEMP TABLE mine (id text, user_id text, processing_status text);
		 CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION reelay.capture_1()`,
	} {
		if got := writer.refused(sql); !strings.HasPrefix(got, "42501") {
			t.Errorf("%s\ngot %s, want 42501", sql, got)
		}
	}
	s.exec(`GRANT EXECUTE ON FUNCTION reelay.emit TO ` + role)
	writer.exec(`SELECT reelay.emit('bob', 'v1', 'video.progress')`)
}

// The role of reelay serve has what it needs, which the tests of Relay and Log with such a role show, and not more.
func TestGrantServe_GivesNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	role := s.role("LOGIN")
	if err := pg.GrantServe(t.Context(), s.url, role); err != nil {
		t.Fatal(err)
	}
	serve := s.as(role)
	for _, sql := range []string{
		`SELECT * FROM videos`, `INSERT INTO videos VALUES ('v1', 'alice')`, `TRUNCATE reelay.outbox`, `DELETE FROM reelay.log`,
		`DROP TABLE reelay.log_0`, `UPDATE reelay.watched SET prefix = 'x'`, `CREATE TABLE reelay.mine ()`, `SELECT reelay.watch('videos')`,
		`SELECT reelay.emit('bob', 'v1', 'video.progress')`, `INSERT INTO reelay.outbox (owner, subject, type) VALUES ('bob', 'v1', 'video.created')`,
		`SELECT * FROM reelay.snapshot_1('bob', NULL, 10)`, `SELECT reelay.grant_serve('postgres')`,
	} {
		if got := serve.refused(sql); !strings.HasPrefix(got, "42501") {
			t.Errorf("%s\ngot %s, want 42501", sql, got)
		}
	}
	serve.exec(`SELECT reelay.extend_log(), reelay.trim_log('1 day'), reelay.history(), reelay.new_log_name()`)
	err := pg.GrantServe(t.Context(), s.url, "nobody at all")
	if err == nil || !strings.Contains(err.Error(), `role "nobody at all" does not exist`) {
		t.Errorf("got %v", err)
	}
	quoted := s.role("") + `"; DROP TABLE videos; --`
	s.exec(`CREATE ROLE ` + quote(quoted))
	if err := pg.GrantServe(t.Context(), s.url, quoted); err != nil {
		t.Error(err)
	}
}

// Everything an attacker can put into a schema that is searched, or into its own temporary one, under the names that
// Reelay's functions use: tables, functions and operators that take over if a name is not tied down.
const hostile = `
	CREATE TABLE outbox (id bigint, owner text, subject text, type text, data jsonb);
	CREATE TABLE awake (last_value bigint);
	INSERT INTO awake VALUES (1), (1);
	CREATE TABLE watched (LIKE reelay.watched);
	CREATE SEQUENCE hijacked;
	CREATE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM pg_catalog.nextval('public.hijacked'); RAISE EXCEPTION 'hijacked as %', current_user; END$$;
	CREATE FUNCTION is_owner(text) RETURNS boolean LANGUAGE sql AS 'SELECT evil() = ''''';
	CREATE FUNCTION max_data() RETURNS integer LANGUAGE sql AS 'SELECT length(evil())';
	CREATE FUNCTION octet_length(character varying) RETURNS integer LANGUAGE sql AS 'SELECT length(evil())';
	CREATE FUNCTION coalesce_(text) RETURNS text LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION format(text, integer) RETURNS text LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION format(text, integer, integer, integer) RETURNS text LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION jsonb_build_object(text, text) RETURNS jsonb LANGUAGE sql AS 'SELECT evil()::jsonb';
	CREATE FUNCTION pg_notify(unknown, unknown) RETURNS void LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION string_agg(text, unknown) RETURNS text LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION to_regclass(character varying) RETURNS regclass LANGUAGE sql AS 'SELECT evil()::regclass';
	CREATE FUNCTION same(regclass, regclass) RETURNS boolean LANGUAGE sql AS 'SELECT evil() = ''''';
	CREATE OPERATOR = (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = same);
	CREATE FUNCTION same(character varying, character varying) RETURNS boolean LANGUAGE sql AS 'SELECT evil() = ''''';
	CREATE OPERATOR = (LEFTARG = character varying, RIGHTARG = character varying, FUNCTION = same);
	CREATE OPERATOR <> (LEFTARG = character varying, RIGHTARG = character varying, FUNCTION = same);
	CREATE FUNCTION join(jsonb, unknown) RETURNS jsonb LANGUAGE sql AS 'SELECT evil()::jsonb';
	CREATE OPERATOR || (LEFTARG = jsonb, RIGHTARG = unknown, FUNCTION = join);
	CREATE FUNCTION join(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT evil()::jsonb';
	CREATE OPERATOR || (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = join);
	CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil() IS NULL';
	CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = same);
	CREATE OPERATOR <> (LEFTARG = text, RIGHTARG = text, FUNCTION = same);
	CREATE FUNCTION same(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT evil() IS NULL';
	CREATE OPERATOR = (LEFTARG = integer, RIGHTARG = integer, FUNCTION = same);
	CREATE OPERATOR <= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = same);
	CREATE FUNCTION same(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT evil() IS NULL';
	CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = same);
	CREATE FUNCTION pg_typeof(integer) RETURNS regtype LANGUAGE sql AS 'SELECT evil()::regtype';
	CREATE FUNCTION same(regtype, regtype) RETURNS boolean LANGUAGE sql AS 'SELECT evil() IS NULL';
	CREATE OPERATOR = (LEFTARG = regtype, RIGHTARG = regtype, FUNCTION = same);
	CREATE FUNCTION octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT length(evil())';
	CREATE FUNCTION jsonb_build_object(text, varchar, text, integer, text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT evil()::jsonb';
	CREATE FUNCTION jsonb_build_object(text, varchar) RETURNS jsonb LANGUAGE sql AS 'SELECT evil()::jsonb';
	CREATE FUNCTION jsonb_build_object(text, integer) RETURNS jsonb LANGUAGE sql AS 'SELECT evil()::jsonb';
	CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT evil()';
	CREATE FUNCTION pg_sequence_last_value(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT length(evil())';
	CREATE DOMAIN text AS pg_catalog.text CHECK (public.evil() IS NULL);
	CREATE DOMAIN jsonb AS pg_catalog.jsonb CHECK (public.evil() IS NULL)`

func TestRights_AHostileSearchPathHijacksNothing(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"public", "public, pg_catalog", "pg_temp, public, pg_catalog"} {
		// varchar, whose operators and functions are those of text, so that one made for varchar itself would win.
		s := open(t, `CREATE TABLE videos (id varchar PRIMARY KEY, user_id varchar, processing_status varchar, progress integer, seconds integer); CREATE INDEX ON videos (user_id)`)
		mallory := s.role("")
		s.exec(`GRANT ALL ON SCHEMA public TO ` + mallory + `; GRANT ALL ON videos TO ` + mallory +
			`; GRANT SELECT ON reelay.watched TO ` + mallory + `; GRANT USAGE ON SCHEMA reelay TO ` + mallory)
		attacker := s.as(mallory)
		if strings.HasPrefix(path, "pg_temp") {
			attacker.exec(`SET search_path = pg_temp`)
			attacker.exec(hostile[:strings.Index(hostile, "CREATE TABLE watched")]) // functions in pg_temp are never searched
		}
		attacker.exec(`SET search_path = public`)
		for statement := range strings.SplitSeq(hostile, ";\n") {
			// Not all of it is possible on every version, and none of it has to be.
			_ = attacker.try(statement)
		}
		attacker.exec(`SET search_path = ` + path)
		s.exec(`SET search_path = ` + path)
		s.exec(`SELECT reelay.watch('public.videos')`)
		attacker.exec(`INSERT INTO public.videos VALUES ('v1', 'alice', 'new', 0, 1)`)
		attacker.exec(`UPDATE public.videos SET processing_status = 'processing'::varchar`)
		s.exec(`SELECT reelay.watch('public.videos', columns => '{processing_status, progress}', payload => '{processing_status, progress, seconds}', prefix => 'video')`)
		attacker.exec(`UPDATE public.videos SET processing_status = 'ready'::varchar`)
		attacker.exec(`UPDATE public.videos SET user_id = 'bob'::varchar`)
		if got := one[string](s, `SELECT string_agg(key || ' ' OPERATOR(pg_catalog.||) data::pg_catalog.text, ' ') FROM reelay.snapshot('bob', NULL, 10)`); got != `v1 {"seconds": 1, "progress": 0, "processing_status": "ready"}` {
			t.Errorf("%s: snapshot %s", path, got)
		}
		attacker.exec(`TRUNCATE public.videos`)
		s.exec(`SELECT reelay.emit('alice', 'v1', 'video.progress', '1')`)
		s.exec(`SELECT reelay.unwatch('public.videos')`)
		clean := s.another()
		clean.exec(`SET search_path = pg_catalog`)
		same(t, path, clean.lines(`SELECT concat_ws(' ', owner, type) FROM reelay.outbox ORDER BY id`), []string{
			"alice video.created", "alice video.updated", "alice video.updated", "alice video.removed", "bob video.added", "bob video.deleted", "alice video.progress",
		})
		if one[bool](clean, `SELECT is_called FROM public.hijacked`) { // which outlives a subtransaction that fails
			t.Errorf("%s: a function of theirs was called", path)
		}
		same(t, path+": their tables", clean.lines(`SELECT owner FROM public.outbox`), nil)
	}
}

// A type that is not Postgres's own can bring code along: a cast, which may look for what it calls by a name. It comes, or a
// column becomes one of the type, when the trigger's function was made and nobody has mended it yet.
func TestRights_ACastThatComesLaterHijacksNothing(t *testing.T) {
	t.Parallel()
	const casts = `
		CREATE FUNCTION to_json_text(state) RETURNS json LANGUAGE plpgsql AS $$BEGIN RETURN to_json(lower(CASE $1 WHEN 'done' THEN 'DONE' ELSE 'NEW' END)); END$$;
		CREATE FUNCTION to_plain_text(state) RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN lower('NEW'); END$$;
		CREATE CAST (state AS json) WITH FUNCTION to_json_text(state);
		CREATE CAST (state AS text) WITH FUNCTION to_plain_text(state)`
	for _, change := range []string{
		``, `; ALTER TABLE videos ALTER title TYPE state USING 'new'`, `; ALTER TABLE videos ALTER progress TYPE state USING 'new'`,
		` AS IMPLICIT; SELECT reelay.watch('videos', columns => '{kind}', payload => '{title}'); DROP TRIGGER "00_reelay_update" ON videos; ALTER TABLE videos ALTER kind TYPE state USING 'new'`,
	} {
		s := open(t, `CREATE TYPE state AS ENUM ('new', 'done');
			CREATE TABLE videos (id text PRIMARY KEY, user_id text, processing_status state, title text, progress integer, kind text); CREATE INDEX ON videos (user_id);
			INSERT INTO videos VALUES ('v1', 'alice', 'new', 'one', 1, 'new');
			SELECT reelay.watch('videos', columns => '{processing_status,kind}', payload => '{processing_status,title,progress}')`)
		s.exec(casts + change)
		mallory := s.role("")
		s.exec(`CREATE SCHEMA hostile AUTHORIZATION ` + mallory + `; GRANT ALL ON videos TO ` + mallory)
		attacker := s.as(mallory)
		attacker.exec(`CREATE SEQUENCE hostile.hijacked;
			CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM nextval('hostile.hijacked'); RETURN 'hijacked'; END$$;
			CREATE FUNCTION hostile.enum_out(state) RETURNS text LANGUAGE sql AS $$SELECT hostile.lower('')$$`)
		attacker.exec(`SET search_path = hostile, pg_catalog, public`)
		attacker.exec(`UPDATE videos SET processing_status = 'done'`)
		attacker.exec(`INSERT INTO videos (id, user_id, processing_status) VALUES ('v2', 'new', 'new')`)
		attacker.exec(`DELETE FROM videos WHERE id = 'v2'`)
		if one[bool](s, `SELECT is_called FROM hostile.hijacked`) {
			t.Errorf("%q: a function of theirs was called, with the rights of Reelay's owner", change)
		}
		if !strings.Contains(change, "DROP") && one[int](s, `SELECT reelay.mend_watched()`) == 0 {
			t.Errorf("%q: nothing was mended", change)
		}
	}
}

// Who owns a watched table may put a view in its place, whose functions would run with the rights of who reads it.
func TestRights_AViewInPlaceOfATableGetsNoRights(t *testing.T) {
	t.Parallel()
	s := open(t, watched)
	mallory := s.role("")
	s.exec(`GRANT ALL ON SCHEMA public TO ` + mallory + `; ALTER TABLE videos OWNER TO ` + mallory)
	attacker := s.as(mallory)
	attacker.exec(`
		INSERT INTO videos VALUES ('v1', 'alice');
		ALTER TABLE videos RENAME TO films;
		CREATE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE ` + mallory + ` SUPERUSER'; RETURN 'ready'; END$$;
		CREATE VIEW videos AS SELECT id, user_id, public.evil() AS processing_status FROM films`)
	attacker.exec(`TRUNCATE films`)
	if got := s.refused(`SELECT * FROM reelay.snapshot('alice', NULL, 10)`); got !=
		"42P01 public.videos, which Reelay watches, has another name now\n  hint: Call reelay.watch again, with the new name." {
		t.Errorf("snapshot: got %s", got)
	}
	if one[bool](s, `SELECT rolsuper FROM pg_roles WHERE rolname = $1`, mallory) {
		t.Fatal("the owner of a watched table made itself superuser")
	}
	s.captures(`alice v1 video.created {"processing_status": "pending"}`, `alice v1 video.deleted`)
	// Swapped in the very moment between the look at the name and its use: Postgres itself refuses views there.
	if one[bool](s, `SELECT current_setting('restrict_nonsystem_relation_kind', true) IS NULL`) {
		return // a minor version that is too old for it
	}
	s.exec(`UPDATE reelay.watched SET relation = 'videos'`) // what the look at the name would have seen
	if got := s.refused(`SELECT * FROM reelay.snapshot('alice', NULL, 10)`); !strings.Contains(got, `access to non-system view "videos" is restricted`) {
		t.Errorf("snapshot: got %s", got)
	}
}

// The whole schema may belong to a role that is no superuser, as on a hosted Postgres.
func TestMigrate_AsARoleThatIsNoSuperuser(t *testing.T) {
	t.Parallel()
	s := connect(t, pgtest.Shared(t).NewEmpty(t))
	role := s.role("LOGIN")
	s.exec(`ALTER DATABASE ` + one[string](s, `SELECT current_database()::text`) + ` OWNER TO ` + role)
	url := login(s.url, role)
	migrate(t, url)
	owner := connect(t, url)
	owner.exec(`CREATE SCHEMA app; SET search_path = app`)
	owner.exec(watched)
	owner.exec(`INSERT INTO videos VALUES ('v1', 'alice'); SELECT reelay.emit('alice', 'v1', 'video.progress'); SELECT reelay.trim_log('1 day'), reelay.extend_log(), reelay.history()`)
	same(t, "snapshot", owner.snapshot("alice"), []string{`v1 {"processing_status": "pending"}`})
}
