package pg_test

import (
	"testing"
)

func TestCapture_EveryChangeMakesItsEvent(t *testing.T) {
	t.Parallel()
	s := open(t, videos, `
		CREATE TABLE accounts (id text PRIMARY KEY);
		INSERT INTO accounts VALUES ('alice'), ('bob'), ('ALICE'), ('mallory');
		ALTER TABLE videos ADD FOREIGN KEY (user_id) REFERENCES accounts ON DELETE CASCADE;
		INSERT INTO videos VALUES ('v1', 'alice', 'pending', 'one'), ('v2', 'bob', 'ready', 'two'), ('nobody', NULL, 'pending', 'none');
		SELECT reelay.watch('videos')`)
	for name, test := range map[string]struct {
		sql  string
		want []string
	}{
		"insert": {
			`INSERT INTO videos VALUES ('v9', 'alice', 'pending', 'a title')`,
			[]string{`alice v9 video.created {"processing_status": "pending"}`},
		},
		"update of a watched column": {
			`UPDATE videos SET processing_status = 'ready' WHERE id = 'v1'`,
			[]string{`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`},
		},
		"update to the same value": {`UPDATE videos SET processing_status = processing_status || '', user_id = lower(user_id)`, nil},
		"update of another column": {`UPDATE videos SET title = 'another'`, nil},
		"delete": {
			`DELETE FROM videos WHERE id = 'v1'`,
			[]string{`alice v1 video.deleted`},
		},
		"owner": {
			`UPDATE videos SET user_id = 'bob' WHERE id = 'v1'`,
			[]string{`alice v1 video.removed`, `bob v1 video.added {"processing_status": "pending"}`},
		},
		"owner and a watched column": {
			`UPDATE videos SET user_id = 'bob', processing_status = 'ready' WHERE id = 'v1'`,
			[]string{`alice v1 video.removed`, `bob v1 video.added {"processing_status": "ready"}`},
		},
		"owner to nobody": {
			`UPDATE videos SET user_id = NULL WHERE id = 'v1'`,
			[]string{`alice v1 video.removed`},
		},
		"owner from nobody": {
			`UPDATE videos SET user_id = 'bob' WHERE id = 'nobody'`,
			[]string{`bob nobody video.added {"processing_status": "pending"}`},
		},
		"owner in capitals": {
			`UPDATE videos SET user_id = 'ALICE' WHERE id = 'v1'`,
			[]string{`alice v1 video.removed`, `ALICE v1 video.added {"processing_status": "pending"}`},
		},
		"key": {
			`UPDATE videos SET id = 'v8' WHERE id = 'v1'`,
			[]string{`alice v1 video.deleted`, `alice v8 video.created {"processing_status": "pending"}`},
		},
		"key and owner": {
			`UPDATE videos SET id = 'v8', user_id = 'bob' WHERE id = 'v1'`,
			[]string{`alice v1 video.deleted`, `bob v8 video.created {"processing_status": "pending"}`},
		},
		"insert on conflict, new": {
			`INSERT INTO videos VALUES ('v9', 'alice', 'ready') ON CONFLICT (id) DO UPDATE SET processing_status = excluded.processing_status`,
			[]string{`alice v9 video.created {"processing_status": "ready"}`},
		},
		"insert on conflict, update": {
			`INSERT INTO videos VALUES ('v1', 'mallory', 'ready') ON CONFLICT (id) DO UPDATE SET processing_status = excluded.processing_status`,
			[]string{`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`},
		},
		"insert on conflict, nothing": {`INSERT INTO videos VALUES ('v1', 'mallory') ON CONFLICT DO NOTHING`, nil},
		"insert of many rows": {
			`INSERT INTO videos SELECT 'n' || i, 'alice' FROM generate_series(1, 3) i`,
			[]string{
				`alice n1 video.created {"processing_status": "pending"}`,
				`alice n2 video.created {"processing_status": "pending"}`,
				`alice n3 video.created {"processing_status": "pending"}`,
			},
		},
		"update of many rows, of which one changes": {
			`UPDATE videos SET processing_status = 'failed'`,
			[]string{
				`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "failed"}`,
				`bob v2 video.updated {"previous": {"processing_status": "ready"}, "processing_status": "failed"}`,
			},
		},
		"cascade from another table": {
			`DELETE FROM accounts WHERE id = 'bob'`,
			[]string{`bob v2 video.deleted`},
		},
		"truncate": {
			`TRUNCATE videos`,
			[]string{`alice v1 video.deleted`, `bob v2 video.deleted`},
		},
		"truncate by cascade": {
			`TRUNCATE accounts CASCADE`,
			[]string{`alice v1 video.deleted`, `bob v2 video.deleted`},
		},
	} {
		s.exec(`BEGIN`)
		s.exec(test.sql)
		same(t, name, s.outbox(), test.want)
		s.exec(`ROLLBACK`)
	}
}

// NULL is a value like another where a column is watched.
func TestCapture_NullIsAValue(t *testing.T) {
	t.Parallel()
	s := open(t, `
		CREATE TABLE videos (id text PRIMARY KEY, user_id text, processing_status text, progress int);
		SELECT reelay.watch('videos', columns => '{processing_status,progress}')`)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
	s.exec(`UPDATE videos SET progress = 5`)
	s.exec(`UPDATE videos SET progress = NULL`)
	s.exec(`UPDATE videos SET progress = NULL, processing_status = NULL`)
	s.captures(
		`alice v1 video.created {"progress": null, "processing_status": null}`,
		`alice v1 video.updated {"previous": {"progress": null}, "progress": 5, "processing_status": null}`,
		`alice v1 video.updated {"previous": {"progress": 5}, "progress": null, "processing_status": null}`,
	)
}

// The statement does not name the column that a BEFORE trigger changes: UPDATE OF would miss it.
func TestCapture_SeesWhatABeforeTriggerChanges(t *testing.T) {
	t.Parallel()
	s := open(t, watched, `
		INSERT INTO videos VALUES ('v1', 'alice');
		CREATE FUNCTION finish() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.title = 'done' THEN NEW.processing_status := 'ready'; END IF;
			IF NEW.title = 'keep' THEN NEW.processing_status := OLD.processing_status; END IF;
			RETURN NEW;
		END$$;
		CREATE TRIGGER finish BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION finish()`)
	s.captures(`alice v1 video.created {"processing_status": "pending"}`)
	s.exec(`UPDATE videos SET title = 'done'`)
	s.captures(`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "ready"}`)
	s.exec(`UPDATE videos SET title = 'keep', processing_status = 'failed'`)
	s.captures()
}

// An AFTER trigger that changes the same row again makes a change inside a change. What it makes is newer, so it has
// to come second, or the last event says what is no longer so.
func TestCapture_KeepsTheOrderOfChangesMadeByOtherTriggers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a_first", `"Audit"`, "zz_last"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, watched, `
				CREATE FUNCTION next() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN
					UPDATE videos SET processing_status = 'queued' WHERE id = NEW.id AND processing_status = 'pending';
					UPDATE videos SET processing_status = 'ready' WHERE id = NEW.id AND processing_status = 'checked';
					RETURN NULL;
				END$$;
				CREATE TRIGGER `+name+` AFTER INSERT OR UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION next()`)
			s.exec(`INSERT INTO videos VALUES ('v1', 'alice')`)
			s.exec(`UPDATE videos SET processing_status = 'checked'`)
			s.captures(
				`alice v1 video.created {"processing_status": "pending"}`,
				`alice v1 video.updated {"previous": {"processing_status": "pending"}, "processing_status": "queued"}`,
				`alice v1 video.updated {"previous": {"processing_status": "queued"}, "processing_status": "checked"}`,
				`alice v1 video.updated {"previous": {"processing_status": "checked"}, "processing_status": "ready"}`,
			)
		})
	}
}

func TestCapture_SendsThePayloadAndComparesTheWatchedColumns(t *testing.T) {
	t.Parallel()
	s := open(t, videos, `
		ALTER TABLE videos ADD progress int, ADD meta jsonb, ADD raw json, ADD tags text[], ADD at timestamptz;
		SELECT reelay.watch('videos', columns => '{processing_status,progress}',
			payload => '{title,progress,meta,raw,tags,at}', prefix => 'clip')`)
	s.exec(`SET timezone = 'UTC'`)
	s.exec(`INSERT INTO videos VALUES ('v1', 'alice', 'pending', 'say "hi"'||chr(10)||'there', 1, '{"a": [1, null]}', '{"b" : 2}', '{x,NULL}', '2026-11-22 10:00:00.5Z')`)
	s.captures(`alice v1 clip.created {"at": "2026-11-22T10:00:00.5+00:00", "raw": {"b": 2}, "meta": {"a": [1, null]}, "tags": ["x", null], "title": "say \"hi\"\nthere", "progress": 1}`)
	s.exec(`UPDATE videos SET title = 'seen only in the payload'`)
	s.captures()
	s.exec(`UPDATE videos SET progress = 2, processing_status = 'running', meta = NULL, raw = NULL, tags = NULL, at = NULL, title = NULL`)
	s.captures(`alice v1 clip.updated {"at": null, "raw": null, "meta": null, "tags": null, "title": null, "previous": {"progress": 1, "processing_status": "pending"}, "progress": 2}`)
}

func TestCapture_CutsWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	s := open(t, videos, `SELECT reelay.watch('videos', payload => '{processing_status,title}')`)
	most := 1048576 - len(`{"title": "", "processing_status": "pending"}`)
	s.exec(`INSERT INTO videos VALUES ('fits', 'alice', 'pending', repeat('x', $1)), ('large', 'alice', 'pending', repeat('x', $1 + 1)), ('escaped', 'alice', 'pending', repeat(chr(1), $1 / 4))`, most)
	same(t, "sizes", s.lines(`SELECT subject || ' ' || octet_length(data::text) FROM reelay.outbox WHERE NOT data ? 'truncated'`), []string{"fits 1048576"})
	s.exec(`DELETE FROM reelay.outbox WHERE subject = 'fits'`)
	s.captures(`alice large video.created {"truncated": true}`, `alice escaped video.created {"truncated": true}`)
	// The old value alone is too large as well.
	s.exec(`SELECT reelay.watch('videos', columns => '{title}', payload => '{processing_status}')`)
	s.exec(`UPDATE videos SET title = NULL WHERE id = 'large'`)
	s.captures(`alice large video.updated {"truncated": true}`)
}

// A value that cannot be sent is the gateway's trouble, not the writer's.
func TestCapture_AValueThatJSONBCannotHoldDoesNotFailTheWriter(t *testing.T) {
	t.Parallel()
	s := open(t, `
		CREATE TYPE state AS ENUM ('pending', 'ready');
		CREATE DOMAIN document AS json;
		CREATE TYPE pair AS (a int, b json);
		CREATE TABLE videos (id text PRIMARY KEY, user_id text, processing_status state, one json, two document, three json[], four pair);
		SELECT reelay.watch('videos', payload => '{processing_status,one,two,three,four}')`)
	s.exec(`INSERT INTO videos VALUES ('fine', 'alice', 'ready', '{}', '[]', '{1,2}', (1, '3'))`)
	s.captures(`alice fine video.created {"one": {}, "two": [], "four": {"a": 1, "b": 3}, "three": [1, 2], "processing_status": "ready"}`)
	for _, column := range []string{"one", "two", "three[1]", "four.b"} {
		s.exec(`INSERT INTO videos (id, user_id, processing_status, ` + column + `) VALUES ('bad ` + column + `', 'alice', 'ready', '"\u0000"')`)
		s.captures(`alice bad ` + column + ` video.created {"truncated": true}`)
	}
}
