-- +goose Up
-- A table that is changed after reelay.watch: its writers must not notice. The generated trigger function names columns,
-- and where one has another name or type by then, or is gone, it asks for those that there are. The leader writes the
-- function anew, and says what the operator has to look at.
--
-- A replica of the version before goes on as it was. Tables that are watched already get their new functions below.

ALTER TABLE reelay.watched ADD numbers smallint[], ADD identity text, ADD generated text;
COMMENT ON COLUMN reelay.watched.numbers IS 'Numbers of the columns key, owner, columns and payload, in this order, by which a renamed one is found.';
COMMENT ON COLUMN reelay.watched.identity IS 'reelay.table_identity() of the table whose numbers these are: a restored one may have others.';
COMMENT ON COLUMN reelay.watched.generated IS 'reelay.watched_state() when the functions were generated.';

-- +goose StatementBegin
CREATE FUNCTION reelay.table_identity(relation regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || $1::oid FROM pg_control_system();
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.table_identity IS 'Cluster, database and table: what has to stay the same for a column''s number to keep its meaning.';

-- +goose StatementBegin
CREATE FUNCTION reelay.columns_now(watched integer, newest boolean DEFAULT false) RETURNS name[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- The names that the columns key, owner, columns and payload have by now, NULL for one that is gone. A name that is
    -- still there counts, whatever column has it; else the column that had it, if it is certain which that is.
    -- With newest the number counts first, and the name comes from Postgres's own cache: a transaction in REPEATABLE READ
    -- may see the catalogs as they were, while it writes to the table as it is.
    SELECT array_agg(coalesce(CASE WHEN newest AND w.identity = reelay.table_identity(w.relation) THEN (
        SELECT i.object_names[3]::name FROM pg_identify_object_as_address('pg_class'::regclass, w.relation, w.numbers[c.n]) i
        WHERE i.object_names[3] NOT LIKE '........pg.dropped.%'
    ) END, (
        SELECT a.attname FROM pg_attribute a WHERE a.attrelid = w.relation AND a.attnum > 0 AND NOT a.attisdropped
            AND (a.attname = c.name OR a.attnum = w.numbers[c.n] AND w.identity = reelay.table_identity(w.relation))
        ORDER BY a.attname = c.name DESC LIMIT 1
    )) ORDER BY c.n)
    FROM reelay.watched w, unnest(ARRAY[w.key, w.owner] || w.columns || w.payload) WITH ORDINALITY c (name, n) WHERE w.id = watched;
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.watched_state(watched integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- All of the table that the generated functions depend on.
    SELECT concat_ws(' ', reelay.table_identity(w.relation), reelay.full_name(w.relation), (
        SELECT string_agg(format('%s:%L:%s', c.n, a.attname, a.atttypid), ' ' ORDER BY c.n)
        FROM unnest(reelay.columns_now(w.id)) WITH ORDINALITY c (name, n)
        LEFT JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name AND a.attnum > 0))
    FROM reelay.watched w WHERE w.id = watched;
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.expressions(watched integer, names name[],
    OUT key text, OUT owner text, OUT members text, OUT previous text, OUT changed text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
-- Pieces of code for the names that columns have now. chr(1) stands for the row, or the new one, chr(2) for the old one:
-- no name of a column contains them. In JSON a column keeps the name that reelay.watch was called with, since that is
-- what clients know.
DECLARE
    w reelay.watched;
    columns name[];
    payload name[];
BEGIN
    SELECT * INTO STRICT w FROM reelay.watched x WHERE x.id = watched;
    columns := names[3:2 + cardinality(w.columns)];
    payload := names[3 + cardinality(w.columns):];
    key := CASE WHEN names[1] IS NOT NULL THEN format('%s.%I::text', chr(1), names[1]) END;
    owner := CASE WHEN names[2] IS NOT NULL THEN format('%s.%I::text', chr(1), names[2]) END;
    SELECT coalesce(string_agg(format('%L, %s.%I', p.member, chr(1), p.name), ', ' ORDER BY p.i), '')
    INTO members FROM unnest(w.payload, payload) WITH ORDINALITY p (member, name, i) WHERE p.name IS NOT NULL;
    IF array_position(payload, NULL) IS NOT NULL THEN -- a column is gone: what is left is not all that was promised
        members := concat_ws(', ', nullif(members, ''), '''truncated'', true');
    END IF;
    -- Old values of the watched columns that really changed.
    SELECT coalesce(string_agg(format('CASE WHEN %1$s.%3$I IS DISTINCT FROM %2$s.%3$I THEN jsonb_build_object(%4$L, %1$s.%3$I) ELSE ''{}'' END',
               chr(2), chr(1), p.name, p.member), ' || ' ORDER BY p.i), '''{}''::jsonb'),
           coalesce(string_agg(format('%1$s.%3$I IS DISTINCT FROM %2$s.%3$I', chr(2), chr(1), p.name), ' OR ' ORDER BY p.i), 'false')
    INTO previous, changed FROM unnest(w.columns, columns) WITH ORDINALITY p (member, name, i) WHERE p.name IS NOT NULL;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.capture_otherwise(watched integer, op text, old record, new record,
    OUT old_owner text, OUT old_key text, OUT new_owner text, OUT new_key text, OUT same_row boolean, OUT updated boolean, OUT data jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, reelay, pg_temp AS $$
#variable_conflict use_variable
-- What a generated function calls when its own way fails, since the table has changed, or a value cannot be sent. It is
-- much dearer, and never an error in the writer's transaction.
DECLARE
    names name[];
    e record;
BEGIN
    same_row := false;
    updated := false;
    FOR round IN 1 .. 2 LOOP
        BEGIN
            names := columns_now(watched, newest => round = 2);
            IF names[1] IS NULL OR names[2] IS NULL THEN -- nobody to tell, or nothing to name
                RETURN;
            END IF;
            e := expressions(watched, names);
            IF op <> 'INSERT' THEN
                EXECUTE 'SELECT ' || replace(e.owner || ', ' || e.key, chr(1), '($1)') INTO old_owner, old_key USING old;
            END IF;
            IF op <> 'DELETE' THEN
                EXECUTE 'SELECT ' || replace(e.owner || ', ' || e.key, chr(1), '($1)') INTO new_owner, new_key USING new;
            END IF;
            EXIT;
        EXCEPTION WHEN OTHERS THEN
            old_owner := NULL;
            new_owner := NULL;
            IF round = 2 THEN
                RAISE WARNING 'Reelay could not tell whose row this is, and sends no event: %', SQLERRM
                    USING HINT = 'Call reelay.watch again.';
                RETURN;
            END IF;
        END;
    END LOOP;
    IF op = 'UPDATE' THEN
        same_row := old_key COLLATE "C" IS NOT DISTINCT FROM new_key;
        updated := same_row AND old_owner COLLATE "C" IS NOT DISTINCT FROM new_owner;
    END IF;
    IF is_owner(new_owner) AND new_key IS NOT NULL THEN
        BEGIN
            EXECUTE replace(replace(format('SELECT jsonb_build_object(%s)', CASE WHEN updated
                THEN concat_ws(', ', nullif(e.members, ''), '''previous'', ' || e.previous) ELSE e.members END), chr(1), '($1)'), chr(2), '($2)')
                INTO data USING new, old;
            IF octet_length(data::text) > max_data() THEN
                data := '{"truncated": true}';
            END IF;
        EXCEPTION WHEN OTHERS THEN
            data := '{"truncated": true}';
        END;
    END IF;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.capture_truncate(watched integer, relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, reelay, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    e record;
BEGIN
    e := expressions(watched, columns_now(watched));
    IF e.key IS NOT NULL AND e.owner IS NOT NULL THEN
        -- By the table's own number: under the name that it had may stand a view by now, whose functions would run as us.
        EXECUTE replace(format('INSERT INTO outbox (owner, subject, type) SELECT %1$s, %2$s, %3$L FROM %4$s AS t WHERE is_owner(%1$s) AND %2$s IS NOT NULL',
            e.owner, e.key, (SELECT w.prefix || '.deleted' FROM watched w WHERE w.id = watched), relation), chr(1), 't');
    END IF;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.generate_functions(watched integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w reelay.watched;
    schema_owner constant text := (SELECT n.nspowner::regrole::text FROM pg_namespace n WHERE n.nspname = 'reelay');
    relation text;
    names name[];
    e record;
    newest text;
    owner_type text;
    owner_is_text boolean;
    code text;
BEGIN
    SELECT * INTO STRICT w FROM reelay.watched x WHERE x.id = watched;
    relation := reelay.full_name(w.relation);
    names := reelay.columns_now(watched);
    e := reelay.expressions(watched, names);

    code := format($capture$
-- Generated by reelay.watch for %2$s. It runs under the row's lock, so for one row the ids of the outbox follow commit order.
DECLARE
    old_owner text;
    old_key text;
    new_owner text;
    new_key text;
    same_row boolean := false;
    updated boolean := false; -- the row is the same, and its owner is
    data jsonb; -- NULL where the new row has nobody to tell
    written boolean := false;
BEGIN
    -- All that may fail, and no writing: a subtransaction that writes nothing costs next to nothing.
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            old_owner := %3$s;
            old_key := %4$s;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            new_owner := %5$s;
            new_key := %6$s;
            IF TG_OP = 'UPDATE' THEN
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
        FROM capture_otherwise(%1$s, TG_OP, OLD, NEW) o;
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
    -- Read after the insert: this transaction has an id by now, and the leader's way to sleep rests on that.
    IF written AND (SELECT last_value FROM awake) = 0 THEN
        PERFORM pg_notify('reelay', '');
    END IF;
    RETURN NULL;
END$capture$, w.id, to_json(relation),
        replace(e.owner, chr(1), 'OLD'), replace(e.key, chr(1), 'OLD'), replace(e.owner, chr(1), 'NEW'), replace(e.key, chr(1), 'NEW'),
        replace(replace(concat_ws(', ', nullif(e.members, ''), '''previous'', ' || e.previous), chr(1), 'NEW'), chr(2), 'OLD'),
        replace(e.members, chr(1), 'NEW'), w.prefix);
    IF e.key IS NULL OR e.owner IS NULL THEN
        code := 'BEGIN RETURN NULL; END'; -- the column is gone that says whose a row is, or which
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION reelay.capture_%s() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reelay, pg_temp AS %L', w.id, code);

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
    EXECUTE format('ALTER FUNCTION reelay.truncated_%s() OWNER TO %s', w.id, schema_owner);
    EXECUTE format('ALTER FUNCTION reelay.snapshot_%s(text, text[], integer) OWNER TO %s', w.id, schema_owner);
    EXECUTE format('REVOKE ALL ON FUNCTION reelay.capture_%s(), reelay.truncated_%s(), reelay.snapshot_%s(text, text[], integer) FROM PUBLIC', w.id, w.id, w.id);

    UPDATE reelay.watched x SET identity = reelay.table_identity(w.relation),
        numbers = (SELECT array_agg(a.attnum ORDER BY c.n) FROM unnest(names) WITH ORDINALITY c (name, n)
            LEFT JOIN pg_attribute a ON a.attrelid = w.relation AND a.attname = c.name AND a.attnum > 0)
    WHERE x.id = w.id;
    UPDATE reelay.watched x SET generated = reelay.watched_state(w.id) WHERE x.id = w.id;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.generate_functions IS 'Writes the functions of one row of reelay.watched, for the table as it is. It locks nothing that a writer needs.';

-- +goose StatementBegin
CREATE FUNCTION reelay.attach(watched integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w reelay.watched;
    names constant name[] := reelay.columns_now(watched);
    relation text;
    changed text;
BEGIN
    SELECT * INTO STRICT w FROM reelay.watched x WHERE x.id = watched;
    relation := reelay.full_name(w.relation);
    SELECT replace(replace(e.changed, chr(1), 'NEW'), chr(2), 'OLD') INTO changed FROM reelay.expressions(watched, names) e;
    -- OR REPLACE lets readers go on. No list of columns: UPDATE OF looks at the SET list, and misses what a BEFORE trigger changes.
    -- Their names make them the first of a table's: a trigger before ours that changes the row again would have its
    -- change captured before the one that it reacts to.
    EXECUTE format('CREATE OR REPLACE TRIGGER "00_reelay_row" AFTER INSERT OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION reelay.capture_%s()',
        relation, w.id);
    EXECUTE format('CREATE OR REPLACE TRIGGER "00_reelay_update" AFTER UPDATE ON %s FOR EACH ROW WHEN (%s OR NOT (%s AND %s)) EXECUTE FUNCTION reelay.capture_%s()',
        relation, changed, reelay.same_text(w.relation, names[2]), reelay.same_text(w.relation, names[1]), w.id);
    EXECUTE format('CREATE OR REPLACE TRIGGER "00_reelay_truncate" BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION reelay.truncated_%s()',
        relation, w.id);
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.attach IS 'Makes the triggers of one row of reelay.watched. It waits for writers, and they for it.';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.generate(watched integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unlimited constant boolean := current_setting('lock_timeout') = '0';
BEGIN
    PERFORM reelay.generate_functions(watched);
    -- A trigger waits for the transactions that have written to the table, and everybody who wants to write waits behind
    -- it. Who has not said how long that may take does not mean for ever.
    IF unlimited THEN
        PERFORM set_config('lock_timeout', '2s', true);
    END IF;
    BEGIN
        PERFORM reelay.attach(watched);
    EXCEPTION WHEN lock_not_available THEN
        RAISE EXCEPTION 'reelay.watch: % is being written to by a transaction that does not end', (SELECT reelay.full_name(w.relation) FROM reelay.watched w WHERE w.id = watched)
            USING ERRCODE = 'lock_not_available',
            HINT = 'Nothing was changed: try again. Other writers wait meanwhile; SET lock_timeout says for how long they may, which is 2 s by default.';
    END;
    IF unlimited THEN
        PERFORM set_config('lock_timeout', '0', true);
    END IF;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.generate IS 'Writes the functions and triggers of one row of reelay.watched.';

REVOKE ALL ON FUNCTION reelay.table_identity(regclass), reelay.columns_now(integer, boolean), reelay.watched_state(integer), reelay.expressions(integer, name[]),
    reelay.capture_otherwise(integer, text, record, record), reelay.capture_truncate(integer, regclass), reelay.generate_functions(integer),
    reelay.attach(integer), reelay.generate(integer) FROM PUBLIC;

-- +goose StatementBegin
DO $$
BEGIN
    PERFORM reelay.forget_dropped();
    PERFORM reelay.generate_functions(w.id) FROM reelay.watched w;
END$$;
-- +goose StatementEnd

-- +goose Down
-- Functions that are generated by now go on: what they miss, they would call in an emergency alone. Only reelay.watch and
-- TRUNCATE of a watched table fail until the way up is gone again.
DROP FUNCTION IF EXISTS reelay.usual_change(integer, name[]); -- of 00011, whose reelay.generate_functions goes with this file
DROP FUNCTION reelay.generate(integer), reelay.attach(integer),
    reelay.generate_functions(integer), reelay.capture_truncate(integer, regclass), reelay.capture_otherwise(integer, text, record, record),
    reelay.expressions(integer, name[]), reelay.watched_state(integer), reelay.columns_now(integer, boolean), reelay.table_identity(regclass);
ALTER TABLE reelay.watched DROP numbers, DROP identity, DROP generated;
