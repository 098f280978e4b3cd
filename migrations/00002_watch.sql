-- +goose Up
-- Which tables are watched, and how. reelay.watch writes it; the functions capture_<id>, truncated_<id> and
-- snapshot_<id> are generated from it, so that a writer's transaction runs plain column reads and one INSERT.
CREATE TABLE reelay.watched (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL UNIQUE,
    key name NOT NULL,
    owner name NOT NULL,
    columns name[] NOT NULL,
    payload name[] NOT NULL,
    prefix text NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION reelay.max_data() RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 1048576';
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.max_data IS 'Bytes of data one event may carry, as text. (Its size inside Postgres says little: a column is compressed.)';

-- An owner that no token can name gets no events, instead of an error in the writer's transaction: NULL, the empty
-- text, and what is longer than 256 bytes, which no index of the log could hold safely either.
-- +goose StatementBegin
CREATE FUNCTION reelay.is_owner(owner text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.octet_length(owner) BETWEEN 1 AND 256';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.emit(owner text, subject text, type text, data jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reelay, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF is_owner(owner) IS NOT TRUE THEN
        RAISE EXCEPTION 'reelay.emit: owner must be 1 to 256 bytes of text' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give the user id as it stands in the token.';
    ELSIF subject IS NULL OR octet_length(subject) NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'reelay.emit: subject must be 1 to 1024 bytes of text' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give the id of what the event is about, such as a video.';
    ELSIF type IS NULL OR octet_length(type) > 128 OR type !~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$' OR type LIKE 'reelay.%' THEN
        RAISE EXCEPTION 'reelay.emit: % is not an event type', coalesce(quote_literal(type), 'NULL') USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Write it like ''video.progress'': lower case, at least one dot, and not beginning with ''reelay.''.';
    ELSIF octet_length(data::text) > max_data() THEN
        RAISE EXCEPTION 'reelay.emit: data has % bytes, more than the % an event may carry', octet_length(data::text), max_data()
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Send a reference, and let the client fetch the rest.';
    END IF;
    -- The leader tells by transaction ids which ids of the outbox can still appear: have the one before drawing the other.
    PERFORM pg_current_xact_id();
    INSERT INTO outbox (owner, subject, type, data) VALUES (owner, subject, type, data);
    IF (SELECT last_value FROM awake) = 0 THEN
        PERFORM pg_notify('reelay', '');
    END IF;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.emit IS 'Sends an event of the application''s own to all sockets of owner, when and if this transaction commits.';

-- +goose StatementBegin
CREATE FUNCTION reelay.check_watch(target regclass, key name, owner name, columns name[], payload name[], prefix text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    schema_owner constant oid := (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'reelay');
    col name;
    type text;
BEGIN
    IF (SELECT c.relkind NOT IN ('r', 'p') OR c.relpersistence = 't' OR c.relnamespace = 'reelay'::regnamespace FROM pg_class c WHERE c.oid = target) THEN
        RAISE EXCEPTION 'reelay.watch: % is no table that can be watched', target USING ERRCODE = 'wrong_object_type',
            HINT = 'Watch an ordinary or a partitioned table, not a view, a foreign or a temporary table, and none in the schema reelay (where a role named reelay makes its tables by default).';
    ELSIF NOT has_table_privilege(target, 'TRIGGER') THEN
        RAISE EXCEPTION 'reelay.watch: % may not make triggers on %', current_user, target USING ERRCODE = 'insufficient_privilege',
            HINT = format('As the owner of the table: GRANT TRIGGER ON %s TO %I.', target, current_user);
    ELSIF NOT pg_has_role(schema_owner, 'MEMBER') THEN
        RAISE EXCEPTION 'reelay.watch: % does not own the schema reelay', current_user USING ERRCODE = 'insufficient_privilege',
            HINT = format('Call it as %s, the role that ran reelay migrate.', schema_owner::regrole);
    ELSIF (
        SELECT c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
            AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
        FROM pg_class c, pg_roles r WHERE c.oid = target AND r.oid = schema_owner
    ) THEN
        RAISE EXCEPTION 'reelay.watch: % has row level security, which hides rows from %', target, schema_owner::regrole USING ERRCODE = 'insufficient_privilege',
            HINT = format('Snapshots are read with its rights, and must see the rows of all users: ALTER ROLE %s BYPASSRLS.', schema_owner::regrole);
    ELSIF coalesce(cardinality(columns), 0) = 0 THEN
        RAISE EXCEPTION 'reelay.watch: no columns to watch' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name at least one, such as columns => ''{processing_status}''.';
    ELSIF cardinality(payload) > 40 THEN
        RAISE EXCEPTION 'reelay.watch: % payload columns, more than 40', cardinality(payload) USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Send what changes on the screen, and let the client fetch the rest by id.';
    ELSIF prefix IS NULL OR prefix !~ '^[a-z][a-z0-9_]{0,63}$' OR prefix = 'reelay' THEN
        RAISE EXCEPTION 'reelay.watch: % is not a prefix for event types', coalesce(quote_literal(prefix), 'NULL') USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Use a lower-case word such as ''video'', which makes events named video.created; ''reelay'' is taken.';
    ELSIF 'previous' = ANY (payload) THEN
        RAISE EXCEPTION 'reelay.watch: a payload column cannot be named "previous"' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'An update carries the old values under that name. Leave the column out of the payload.';
    END IF;
    FOREACH col IN ARRAY ARRAY[key, owner] || columns || payload LOOP
        IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = target AND a.attname = col AND a.attnum > 0 AND NOT a.attisdropped) THEN
            RAISE EXCEPTION 'reelay.watch: % has no column %', target, coalesce(quote_ident(col), 'NULL') USING ERRCODE = 'undefined_column',
                HINT = format('It has: %s. Say which to use by key =>, owner =>, columns => and payload =>.', (
                    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped));
        ELSIF NOT has_column_privilege(schema_owner, target, col, 'SELECT') THEN
            RAISE EXCEPTION 'reelay.watch: % may not read column % of %', schema_owner::regrole, quote_ident(col), target USING ERRCODE = 'insufficient_privilege',
                HINT = format('As the owner of the table: GRANT SELECT ON %s TO %s. Snapshots are read with its rights.', target, schema_owner::regrole);
        END IF;
    END LOOP;
    FOREACH col IN ARRAY ARRAY[key, owner] || columns LOOP
        SELECT format_type(a.atttypid, -1) INTO type FROM pg_attribute a WHERE a.attrelid = target AND a.attname = col;
        BEGIN
            -- With the search_path of the generated functions, so that what passes here cannot fail in a writer.
            EXECUTE format('SELECT NULL::%s IS DISTINCT FROM NULL::%s', type, type);
        EXCEPTION WHEN undefined_function THEN
            RAISE EXCEPTION 'reelay.watch: column % of % is of type %, which has no equality, so a change of it cannot be seen', quote_ident(col), target, type
                USING ERRCODE = 'datatype_mismatch', HINT = 'Watch another column, or change the type (json to jsonb).';
        END;
    END LOOP;
    IF NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = target AND i.indisvalid AND i.indpred IS NULL AND a.attname = owner
    ) THEN
        RAISE WARNING 'reelay.watch: no index begins with column % of %', quote_ident(owner), target
            USING HINT = format('A snapshot reads the rows of one owner: CREATE INDEX CONCURRENTLY ON %s (%I).', target, owner);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = target AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = key
    ) THEN
        RAISE WARNING 'reelay.watch: column % of % is not unique', quote_ident(key), target
            USING HINT = 'Two rows with one key look like one row to a client. Name the primary key by key =>.';
    END IF;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.forget_dropped() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n integer;
BEGIN
    FOR n IN DELETE FROM reelay.watched w WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation) RETURNING w.id LOOP
        -- CASCADE: a table that was dropped and restored from a dump has its triggers back, and is another one.
        EXECUTE format('DROP FUNCTION reelay.capture_%s(), reelay.truncated_%s(), reelay.snapshot_%s(text, text[], integer) CASCADE', n, n, n);
    END LOOP;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.forget_dropped IS 'Removes what is left of watched tables that were dropped.';

-- +goose StatementBegin
CREATE FUNCTION reelay.watch(
    relation text,
    key name DEFAULT 'id',
    owner name DEFAULT 'user_id',
    columns name[] DEFAULT '{processing_status}',
    payload name[] DEFAULT NULL,
    prefix text DEFAULT 'video'
) RETURNS void
-- The caller's search_path finds the table, and every other name is written in full.
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    target pg_catalog.regclass;
    n integer;
BEGIN
    BEGIN
        target := pg_catalog.to_regclass(relation);
    EXCEPTION WHEN invalid_name OR syntax_error THEN NULL; -- no table has such a name
    END;
    IF target IS NULL THEN
        RAISE EXCEPTION 'reelay.watch: there is no table %', coalesce(relation, 'NULL') USING ERRCODE = 'undefined_table',
            HINT = 'Name the schema too (app.videos), put a name with capitals or blanks into double quotes, and check that you are connected to the right database.';
    END IF;
    payload := coalesce(payload, columns);
    PERFORM reelay.check_watch(target, key, owner, columns, payload, prefix);
    PERFORM reelay.forget_dropped();
    INSERT INTO reelay.watched AS w (relation, key, owner, columns, payload, prefix)
    VALUES (target, key, owner, columns, payload, prefix)
    ON CONFLICT ON CONSTRAINT watched_relation_key DO UPDATE
        SET key = excluded.key, owner = excluded.owner, columns = excluded.columns, payload = excluded.payload, prefix = excluded.prefix
    RETURNING w.id INTO n;
    PERFORM reelay.generate(n);
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.watch IS 'Attaches Reelay to a table, or changes how it is attached. Every later change of a watched column reaches the sockets of the row''s owner.';

-- +goose StatementBegin
CREATE FUNCTION reelay.same_text(relation regclass, col name) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- An expression that is true when a column has the same text in OLD and NEW. Its own equality may see less: that of
    -- numeric takes 1.0 for 1.00, that of a collation without regard to case alice for Alice. For these types it does not.
    SELECT format('OLD.%1$I%2$s IS NOT DISTINCT FROM NEW.%1$I%2$s', a.attname,
        CASE WHEN a.atttypid IN ('uuid'::regtype, 'bigint'::regtype, 'integer'::regtype) THEN '' ELSE '::text COLLATE "C"' END)
    FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = col;
$$;
-- +goose StatementEnd

-- reelay.generate, which reelay.watch calls, is made in 00004.

-- +goose StatementBegin
CREATE FUNCTION reelay.full_name(relation regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1;
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.unwatch(relation text) RETURNS void
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
            HINT = pg_catalog.format('Watched are: %s.', coalesce((SELECT pg_catalog.string_agg(w.relation::text, ', ') FROM reelay.watched w), 'no tables'));
    END IF;
    EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS "00_reelay_row" ON %s', reelay.full_name(target));
    EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS "00_reelay_update" ON %s', reelay.full_name(target));
    EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS "00_reelay_truncate" ON %s', reelay.full_name(target));
    EXECUTE pg_catalog.format('DROP FUNCTION reelay.capture_%s(), reelay.truncated_%s(), reelay.snapshot_%s(text, text[], integer)', n, n, n);
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.unwatch IS 'Detaches Reelay from a table. Events that were committed before are still delivered.';

-- +goose StatementBegin
CREATE FUNCTION reelay.snapshot(owner text, keys text[], most integer) RETURNS TABLE (key text, data jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    query text;
BEGIN
    SELECT string_agg(format('SELECT * FROM reelay.snapshot_%s($1, $2, $3) WITH ORDINALITY AS r (key, data, changed, n)', w.id), ' UNION ALL ') INTO query
    FROM reelay.watched w WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation);
    IF query IS NOT NULL AND reelay.is_owner(owner) THEN -- the rows of nobody are nobody's
        RETURN QUERY EXECUTE format('SELECT s.key, s.data FROM (%s) s ORDER BY s.changed DESC NULLS LAST, s.n LIMIT $3', query)
            USING owner, keys, most;
    END IF;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.snapshot IS 'The rows of one owner in all watched tables, newest first: at most "most", and only "keys" where they are given.';

-- +goose StatementBegin
CREATE FUNCTION reelay.grant_serve(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA reelay TO %I', role);
    EXECUTE format('GRANT SELECT, UPDATE ON reelay.state TO %I', role);
    EXECUTE format('GRANT SELECT, DELETE ON reelay.outbox TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT ON reelay.log TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON reelay.owner_head TO %I', role);
    EXECUTE format('GRANT SELECT ON reelay.watched TO %I', role);
    EXECUTE format('GRANT SELECT, UPDATE ON SEQUENCE reelay.awake TO %I', role);
    EXECUTE format('GRANT SELECT ON SEQUENCE reelay.outbox_id_seq TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION reelay.history(), reelay.new_log_name(), reelay.extend_log(), reelay.trim_log(interval), reelay.snapshot(text, text[], integer) TO %I', role);
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.grant_serve IS 'Gives a role what reelay serve needs, and no more.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA reelay FROM PUBLIC;

-- +goose Down
-- +goose StatementBegin
DO $$
DECLARE
    name text;
BEGIN
    PERFORM reelay.forget_dropped();
    FOR name IN SELECT reelay.full_name(relation) FROM reelay.watched LOOP
        PERFORM reelay.unwatch(name);
    END LOOP;
END$$;
-- +goose StatementEnd
DROP FUNCTION reelay.grant_serve(name), reelay.snapshot(text, text[], integer), reelay.unwatch(text), reelay.full_name(regclass),
    reelay.same_text(regclass, name), reelay.watch(text, name, name, name[], name[], text), reelay.forget_dropped(),
    reelay.check_watch(regclass, name, name, name[], name[], text),
    reelay.emit(text, text, text, jsonb), reelay.is_owner(text), reelay.max_data();
DROP TABLE reelay.watched;
