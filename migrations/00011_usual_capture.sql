-- +goose Up
-- The same triggers, at less cost for writers: what nearly all changes are is captured without a search_path of the
-- function's own. To set one and to take it back, in each transaction anew, took as long as most of the rest.
--
-- Tables that are watched already get their new functions below. A table can be written to meanwhile.
SET LOCAL lock_timeout = '2s'; -- behind a reelay.watch that does not end: try again after it

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.watched_state(watched integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- All of the table that the generated functions depend on.
    SELECT concat_ws(' ', reelay.table_identity(w.relation), reelay.full_name(w.relation), (
        SELECT string_agg(format('%s:%L:%s:%s:%s', c.n, a.attname, a.atttypid, a.attcollation,
            (SELECT count(*) FROM pg_cast k WHERE k.castsource = a.atttypid)), ' ' ORDER BY c.n)
        FROM unnest(reelay.columns_now(w.id)) WITH ORDINALITY c (name, n)
        LEFT JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name AND a.attnum > 0))
    FROM reelay.watched w WHERE w.id = watched;
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.usual_change(watched integer, names name[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
-- The code for what an event carries, by the names that columns have now: an expression that is NULL where a change is not
-- a usual one. That is: an UPDATE by which the row keeps its key and its owner, who can be told, and columns that are
-- not large. NULL where a column is gone, or is of any other type than those that Postgres brings the code for.
--
-- Whoever writes has a say in what is found by a name, so the expression names nothing but Postgres's own, in full. And
-- that must not call anybody else's: a cast to json, say, which jsonb_build_object looks for where a type is not
-- Postgres's own. So enums are written by their output function, and no column may have become one of another type since:
-- for the columns that the trigger's condition names, Postgres sees to that. The others are asked, before all else.
DECLARE
    w reelay.watched;
    plain constant oid[] := '{boolean,smallint,integer,bigint,real,double precision,uuid,date,time,timestamp,timestamptz}'::regtype[];
    texts constant oid[] := '{text,varchar}'::regtype[];
    conditions text[];
    members text;
    previous text;
BEGIN
    SELECT * INTO STRICT w FROM reelay.watched x WHERE x.id = watched;
    IF EXISTS (
        SELECT FROM unnest(names) WITH ORDINALITY c (name, n)
        LEFT JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name AND a.attnum > 0
        LEFT JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE CASE WHEN c.n <= 2
            -- The equality of these sees what their text does: that of numeric takes 1.0 for 1.00, that of a collation
            -- without regard to case alice for Alice.
            THEN t.oid IN ('uuid'::regtype, 'bigint'::regtype, 'integer'::regtype, 'smallint'::regtype) OR t.oid = ANY (texts) AND l.collisdeterministic
            ELSE t.oid = ANY (plain) OR t.oid = ANY (texts)
                OR t.typtype = 'e' AND NOT EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid) -- the long way would use it
            END IS NOT TRUE
    ) THEN
        RETURN NULL;
    END IF;
    conditions := ARRAY['TG_OP OPERATOR(pg_catalog.=) ''UPDATE'''] || ARRAY(
        SELECT DISTINCT format('pg_catalog.pg_typeof(NEW.%I) OPERATOR(pg_catalog.=) %L::pg_catalog.regtype', c.name, a.atttypid::regtype)
        FROM unnest(names[3 + cardinality(w.columns):]) c (name) JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name
        JOIN pg_type t ON t.oid = a.atttypid WHERE t.typtype <> 'e' AND c.name <> ALL (names[:2 + cardinality(w.columns)])
    ) || ARRAY[
        format('OLD.%1$I OPERATOR(pg_catalog.=) NEW.%1$I', names[2]), format('OLD.%1$I OPERATOR(pg_catalog.=) NEW.%1$I', names[1])];
    IF (SELECT a.atttypid = ANY (texts) FROM pg_attribute a WHERE a.attrelid = w.relation AND a.attname = names[2]) THEN -- reelay.is_owner
        conditions := conditions || format('NEW.%1$I OPERATOR(pg_catalog.<>) '''' AND pg_catalog.octet_length(NEW.%1$I) OPERATOR(pg_catalog.<=) 256', names[2]);
    END IF;
    -- A byte of text is up to six in JSON: all of them together stay below reelay.max_data().
    WITH large AS (
        SELECT DISTINCT r.row, c.name FROM unnest(names) WITH ORDINALITY c (name, n)
        JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name AND a.atttypid = ANY (texts)
        CROSS JOIN (VALUES ('OLD'), ('NEW')) r (row)
        WHERE c.n > 2 AND (r.row = 'NEW' OR c.n <= 2 + cardinality(w.columns)) -- of the old row, what is watched
    )
    SELECT conditions || array_agg(format('(pg_catalog.octet_length(%s.%I) OPERATOR(pg_catalog.<=) %s) IS NOT FALSE',
        l.row, l.name, reelay.max_data() / 10 / (SELECT count(*) FROM large)) ORDER BY l.name, l.row) INTO conditions FROM large l;
    SELECT string_agg(format('%L, ' || CASE t.typtype WHEN 'e' THEN 'pg_catalog.enum_out(NEW.%I)::pg_catalog.text, ' ELSE 'NEW.%I, ' END, p.member, p.name),
        '' ORDER BY p.i) INTO members
    FROM unnest(w.payload, names[3 + cardinality(w.columns):]) WITH ORDINALITY p (member, name, i)
    JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = p.name JOIN pg_type t ON t.oid = a.atttypid;
    -- Where only one is watched, and owner and key are as they were, that one has changed: why else the trigger?
    SELECT string_agg(format(CASE WHEN cardinality(w.columns) = 1 THEN 'pg_catalog.jsonb_build_object(%2$L, %3$s)'
            ELSE 'CASE WHEN OLD.%1$I OPERATOR(pg_catalog.=) NEW.%1$I OR OLD.%1$I IS NULL AND NEW.%1$I IS NULL '
                'THEN ''{}'' ELSE pg_catalog.jsonb_build_object(%2$L, %3$s) END' END,
        p.name, p.member, format(CASE t.typtype WHEN 'e' THEN 'pg_catalog.enum_out(OLD.%I)::pg_catalog.text' ELSE 'OLD.%I' END, p.name)),
        ' OPERATOR(pg_catalog.||) ' ORDER BY p.i) INTO previous
    FROM unnest(w.columns, names[3:2 + cardinality(w.columns)]) WITH ORDINALITY p (member, name, i)
    JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = p.name JOIN pg_type t ON t.oid = a.atttypid;
    RETURN format('CASE WHEN %s THEN pg_catalog.jsonb_build_object(%s''previous'', %s) END', array_to_string(conditions, ' AND '), members, previous);
END$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION reelay.usual_change(integer, name[]) FROM PUBLIC;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.generate_functions(watched integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w reelay.watched;
    schema_owner constant text := (SELECT n.nspowner::regrole::text FROM pg_namespace n WHERE n.nspname = 'reelay');
    relation text;
    names name[];
    e record;
    usual text;
    newest text;
    owner_type text;
    owner_is_text boolean;
    code text;
BEGIN
    SELECT * INTO STRICT w FROM reelay.watched x WHERE x.id = watched;
    relation := reelay.full_name(w.relation);
    names := reelay.columns_now(watched);
    e := reelay.expressions(watched, names);
    usual := reelay.usual_change(watched, names);

    code := format($capture$
-- Generated by reelay.watch for %2$s. It runs under the row's lock, so for one row the ids of the outbox follow commit order.
--
-- It has the rights of the schema's owner, and the search_path of whoever writes. So every name is written in full,
-- operators too, and nothing is called that would look for one: reelay.usual_change says how.
DECLARE
    data pg_catalog.jsonb; -- NULL where the change is not a usual one
    told pg_catalog.text;
BEGIN
    -- As few expressions as can be: each that a transaction evaluates for the first time has to be prepared. What may
    -- fail, should the table have changed, is in a subtransaction, and writes nothing: so that costs next to nothing.
    BEGIN
        data := %3$s;
    EXCEPTION WHEN OTHERS THEN
        data := NULL;
    END;
    IF data IS NULL THEN
        PERFORM reelay.capture_any_%1$s(TG_OP, OLD, NEW);
    ELSE
        INSERT INTO reelay.outbox (owner, subject, type, data) VALUES (%4$s, %5$s, '%6$s.updated', data)
        -- Read after the insert: this transaction has an id by now, and the leader's way to sleep rests on that. After a
        -- crash there is no value, and the leader sleeps.
        RETURNING CASE WHEN pg_catalog.pg_sequence_last_value('reelay.awake') OPERATOR(pg_catalog.=) 1 THEN NULL
            ELSE pg_catalog.pg_notify('reelay', '')::pg_catalog.text END INTO told;
    END IF;
    RETURN NULL;
END$capture$, w.id, to_json(relation), usual,
        format('NEW.%I::pg_catalog.text', coalesce(names[2], '')), format('NEW.%I::pg_catalog.text', coalesce(names[1], '')), w.prefix);
    IF usual IS NULL THEN
        code := format('BEGIN PERFORM reelay.capture_any_%s(TG_OP, OLD, NEW); RETURN NULL; END', w.id);
    END IF;
    IF e.key IS NULL OR e.owner IS NULL THEN
        code := 'BEGIN RETURN NULL; END'; -- the column is gone that says whose a row is, or which
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION reelay.capture_%s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', w.id, code);

    code := format($capture$
-- Generated by reelay.watch for %2$s: every kind of change, and columns of every type.
DECLARE
    old_owner text;
    old_key text;
    new_owner text;
    new_key text;
    same_row boolean;
    updated boolean; -- the row is the same, and its owner is
    data jsonb; -- NULL where the new row has nobody to tell
    written boolean;
BEGIN
    -- All that may fail, and no writing: a subtransaction that writes nothing costs next to nothing.
    BEGIN
        IF op <> 'INSERT' THEN
            old_owner := %3$s;
            old_key := %4$s;
        END IF;
        IF op <> 'DELETE' THEN
            new_owner := %5$s;
            new_key := %6$s;
            IF op = 'UPDATE' THEN
                same_row := old_key COLLATE "C" IS NOT DISTINCT FROM new_key;
                updated := same_row AND old_owner COLLATE "C" IS NOT DISTINCT FROM new_owner;
            END IF;
            IF is_owner(new_owner) AND new_key IS NOT NULL THEN
                IF updated THEN
                    data := jsonb_build_object(%7$s);
                ELSE
                    data := jsonb_build_object(%8$s);
                END IF;
                IF octet_length(data::text) > max_data() THEN
                    data := '{"truncated": true}';
                END IF;
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        SELECT o.old_owner, o.old_key, o.new_owner, o.new_key, o.same_row, o.updated, o.data
        INTO old_owner, old_key, new_owner, new_key, same_row, updated, data
        FROM capture_otherwise(%1$s, op, old, new) o;
    END;
    IF updated THEN
        IF data IS NOT NULL THEN
            INSERT INTO outbox (owner, subject, type, data) VALUES (new_owner, new_key, '%9$s.updated', data);
            written := true;
        END IF;
    ELSE
        IF is_owner(old_owner) AND old_key IS NOT NULL THEN
            INSERT INTO outbox (owner, subject, type)
            VALUES (old_owner, old_key, CASE WHEN same_row THEN '%9$s.removed' ELSE '%9$s.deleted' END);
            written := true;
        END IF;
        IF data IS NOT NULL THEN
            INSERT INTO outbox (owner, subject, type, data)
            VALUES (new_owner, new_key, CASE WHEN same_row THEN '%9$s.added' ELSE '%9$s.created' END, data);
            written := true;
        END IF;
    END IF;
    IF written AND pg_sequence_last_value('awake') IS DISTINCT FROM 1 THEN -- after the insert, as in capture_%1$s
        PERFORM pg_notify('reelay', '');
    END IF;
END$capture$, w.id, to_json(relation),
        replace(e.owner, chr(1), 'OLD'), replace(e.key, chr(1), 'OLD'), replace(e.owner, chr(1), 'NEW'), replace(e.key, chr(1), 'NEW'),
        replace(replace(concat_ws(', ', nullif(e.members, ''), '''previous'', ' || e.previous), chr(1), 'NEW'), chr(2), 'OLD'),
        replace(e.members, chr(1), 'NEW'), w.prefix);
    IF e.key IS NULL OR e.owner IS NULL THEN
        code := 'BEGIN END';
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION reelay.capture_any_%s(op text, old record, new record) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, reelay, pg_temp AS %L', w.id, code);

    code := format($truncated$
-- Generated by reelay.watch for %1$s. TRUNCATE shows no rows to a trigger after it, so each row is reported before it.
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'TRUNCATE of %%, which Reelay watches, in a %% transaction', TG_RELID::regclass, current_setting('transaction_isolation')
            USING ERRCODE = 'feature_not_supported',
            HINT = 'It could miss rows newer than its snapshot. Use DELETE or READ COMMITTED, or call reelay.unwatch first.';
    END IF;
    PERFORM pg_current_xact_id(); -- as in reelay.emit; the row triggers' transactions have one already
    PERFORM capture_truncate(%2$s, TG_RELID);
    IF (SELECT last_value FROM awake) = 0 THEN
        PERFORM pg_notify('reelay', '');
    END IF;
    RETURN NULL;
END$truncated$, to_json(relation), w.id);
    EXECUTE format('CREATE OR REPLACE FUNCTION reelay.truncated_%s() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reelay, pg_temp SET row_security = off AS %L', w.id, code);

    -- Newest first, by the first of these columns that the table has.
    SELECT format('t.%I', a.attname) INTO newest FROM pg_attribute a
    WHERE a.attrelid = w.relation AND a.attname IN ('updated_at', 'created_at', 'inserted_at') AND NOT a.attisdropped
        AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)
        AND has_column_privilege((SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'reelay'), w.relation, a.attnum, 'SELECT')
    ORDER BY array_position('{updated_at,created_at,inserted_at}'::name[], a.attname) LIMIT 1;
    -- A domain's own type: what the domain's checks refuse is an owner without rows, not an error.
    WITH RECURSIVE base AS (
        SELECT t.oid, t.typtype, t.typbasetype, t.typcategory FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = w.relation AND a.attname = names[2]
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype, t.typcategory FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
    )
    SELECT format_type(b.oid, -1), b.typcategory = 'S' INTO owner_type, owner_is_text FROM base b WHERE b.typtype <> 'd';
    code := format($snapshot$
BEGIN
    IF to_regclass(%1$L) IS DISTINCT FROM (SELECT w.relation FROM reelay.watched w WHERE w.id = %9$s) THEN
        RAISE EXCEPTION '%%, which Reelay watches, has another name now', %1$L USING ERRCODE = 'undefined_table',
            HINT = 'Call reelay.watch again, with the new name.';
    END IF;
    RETURN QUERY SELECT %2$s, %3$s, (%4$s)::timestamptz FROM %1$s AS t
    -- By the column's own type, for its index, and by the bytes of its text, for they name the owner.
    WHERE t.%5$I = $1::%6$s AND %7$s COLLATE "C" = $1 AND ($2 IS NULL OR %2$s = ANY ($2)) AND %2$s IS NOT NULL
    ORDER BY %4$s DESC NULLS LAST, t.%8$I DESC LIMIT $3;
%10$s
END$snapshot$, relation, replace(e.key, chr(1), 't'), format('jsonb_build_object(%s)', replace(e.members, chr(1), 't')),
        coalesce(newest, 'NULL::timestamptz'), coalesce(names[2], ''), owner_type, replace(e.owner, chr(1), 't'), coalesce(names[1], ''), w.id,
        CASE WHEN owner_is_text THEN '' ELSE
            'EXCEPTION WHEN data_exception THEN RETURN; -- no row can have an owner that is no value of the column''s type' END);
    IF e.key IS NULL OR e.owner IS NULL THEN
        code := 'BEGIN RETURN; END';
    END IF;
    -- STABLE: it reads with the snapshot of the statement that calls it, and so at the same moment as the log's position.
    EXECUTE format('CREATE OR REPLACE FUNCTION reelay.snapshot_%s(owner text, keys text[], most integer)
        RETURNS TABLE (key text, data jsonb, changed timestamptz)
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off %s AS %L', w.id,
        -- Closes the moment between looking at the name and using it, on servers that can.
        CASE WHEN current_setting('restrict_nonsystem_relation_kind', true) IS NOT NULL THEN 'SET restrict_nonsystem_relation_kind = ''view''' ELSE '' END,
        code);

    EXECUTE format('ALTER FUNCTION reelay.capture_%s() OWNER TO %s', w.id, schema_owner);
    EXECUTE format('ALTER FUNCTION reelay.capture_any_%s(text, record, record) OWNER TO %s', w.id, schema_owner);
    EXECUTE format('ALTER FUNCTION reelay.truncated_%s() OWNER TO %s', w.id, schema_owner);
    EXECUTE format('ALTER FUNCTION reelay.snapshot_%s(text, text[], integer) OWNER TO %s', w.id, schema_owner);
    EXECUTE format('REVOKE ALL ON FUNCTION reelay.capture_%1$s(), reelay.capture_any_%1$s(text, record, record), reelay.truncated_%1$s(), '
        'reelay.snapshot_%1$s(text, text[], integer) FROM PUBLIC', w.id);

    UPDATE reelay.watched x SET identity = reelay.table_identity(w.relation),
        numbers = (SELECT array_agg(a.attnum ORDER BY c.n) FROM unnest(names) WITH ORDINALITY c (name, n)
            LEFT JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name AND a.attnum > 0)
    WHERE x.id = w.id;
    UPDATE reelay.watched x SET generated = reelay.watched_state(w.id) WHERE x.id = w.id;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.forget_dropped() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n integer;
BEGIN
    FOR n IN DELETE FROM reelay.watched w WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation) RETURNING w.id LOOP
        -- IF EXISTS: one that was watched before there was the second of them does not have it.
        -- CASCADE: a table that was dropped and restored from a dump has its triggers back, and is another one.
        EXECUTE format('DROP FUNCTION IF EXISTS reelay.capture_%1$s(), reelay.capture_any_%1$s(text, record, record), reelay.truncated_%1$s(), '
            'reelay.snapshot_%1$s(text, text[], integer) CASCADE', n);
    END LOOP;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.unwatch(relation text) RETURNS void
-- As in reelay.watch: only the table is looked for in the caller's search_path.
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    target constant pg_catalog.regclass := pg_catalog.to_regclass(relation);
    n integer;
BEGIN
    PERFORM reelay.forget_dropped();
    DELETE FROM reelay.watched w WHERE w.relation OPERATOR(pg_catalog.=) target RETURNING w.id INTO n;
    IF n IS NULL THEN
        RAISE EXCEPTION 'reelay.unwatch: % is not watched', coalesce(relation, 'NULL') USING ERRCODE = 'undefined_object',
            HINT = pg_catalog.format('Watched are: %s.', coalesce((SELECT pg_catalog.string_agg(w.relation::pg_catalog.text, ', ') FROM reelay.watched w), 'no tables'));
    END IF;
    EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS "00_reelay_row" ON %s', reelay.full_name(target));
    EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS "00_reelay_update" ON %s', reelay.full_name(target));
    EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS "00_reelay_truncate" ON %s', reelay.full_name(target));
    EXECUTE pg_catalog.format('DROP FUNCTION reelay.capture_%1$s(), reelay.capture_any_%1$s(pg_catalog.text, pg_catalog.record, pg_catalog.record), '
        'reelay.truncated_%1$s(), reelay.snapshot_%1$s(pg_catalog.text, pg_catalog.text[], pg_catalog.int4)', n);
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    PERFORM FROM reelay.watched w ORDER BY w.id FOR UPDATE; -- as reelay.watch does first: no function is replaced by two at once
    PERFORM reelay.forget_dropped();
    PERFORM reelay.generate_functions(w.id) FROM reelay.watched w;
END$$;
-- +goose StatementEnd

-- +goose Down
-- The version before works with these functions, too; that reelay.usual_change goes, 00004 sees to.
SELECT 1;
