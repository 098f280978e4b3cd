-- +goose Up
-- What the leader does about watched tables that were changed, and what it tells the operator. A leader of the version
-- before does nothing about them, and their writers pay for it.

-- +goose StatementBegin
CREATE FUNCTION reelay.missing_triggers(relation regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(name, ', ') FROM unnest('{00_reelay_row,00_reelay_update,00_reelay_truncate}'::text[]) name
    WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = $1 AND t.tgname = name AND t.tgenabled <> 'D');
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.watch_problems() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w reelay.watched;
    was name[];
    now name[];
BEGIN
    FOR w IN SELECT * FROM reelay.watched x WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = x.relation) ORDER BY x.id LOOP
        was := ARRAY[w.key, w.owner] || w.columns || w.payload;
        now := reelay.columns_now(w.id);
        RETURN QUERY SELECT DISTINCT CASE
            WHEN c.now IS NOT NULL THEN format('column %I of %s is named %I now; clients still get it as %1$I', c.was, reelay.full_name(w.relation), c.now)
            WHEN c.was IN (w.key, w.owner) THEN format('column %I of %s is gone; no change of the table is sent', c.was, reelay.full_name(w.relation))
            ELSE format('column %I of %s is gone; changes are sent without it', c.was, reelay.full_name(w.relation)) END
        FROM unnest(was, now) c (was, now) WHERE c.now IS DISTINCT FROM c.was ORDER BY 1;
        RETURN QUERY SELECT format('triggers of %s are missing or disabled (%s); some of its changes are not sent', reelay.full_name(w.relation), m)
        FROM reelay.missing_triggers(w.relation) m WHERE m IS NOT NULL;
    END LOOP;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.watch_problems IS 'What an operator has to look at, a line each: watched tables that were changed since reelay.watch was called. Call it again, and the line goes away.';

-- +goose StatementBegin
CREATE FUNCTION reelay.mend_watched() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Making a trigger waits for writers, and those that come later wait for it: try for a moment, and come back later.
SET lock_timeout = '100ms' AS $$
DECLARE
    w reelay.watched;
    mended integer := 0;
BEGIN
    FOR w IN SELECT * FROM reelay.watched x WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = x.relation) ORDER BY x.id LOOP
        IF w.generated IS DISTINCT FROM reelay.watched_state(w.id) THEN
            PERFORM FROM reelay.watched x WHERE x.id = w.id FOR UPDATE SKIP LOCKED; -- reelay.watch is at it itself
            CONTINUE WHEN NOT FOUND;
            PERFORM reelay.generate_functions(w.id);
            mended := mended + 1;
        END IF;
        -- Those that were disabled are left so, by somebody who meant it.
        IF reelay.missing_triggers(w.relation) IS NOT NULL AND NOT EXISTS (
            SELECT FROM pg_trigger t WHERE t.tgrelid = w.relation AND t.tgname LIKE '00\_reelay\_%' AND t.tgenabled = 'D')
            AND array_position((reelay.columns_now(w.id))[1:2], NULL) IS NULL
        THEN
            BEGIN
                PERFORM reelay.attach(w.id);
                mended := mended + 1;
            EXCEPTION WHEN lock_not_available OR insufficient_privilege OR undefined_function THEN NULL; -- it stays a problem that is told
            END;
        END IF;
    END LOOP;
    RETURN mended;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.mend_watched IS 'Writes anew what does not fit the watched tables any more, as far as it can. Returns how much that was. The leader calls it.';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION reelay.grant_serve(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA reelay TO %I', role);
    EXECUTE format('GRANT SELECT, UPDATE ON reelay.state TO %I', role);
    EXECUTE format('GRANT SELECT, DELETE ON reelay.outbox TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT ON reelay.log TO %I', role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON reelay.owner_head TO %I', role);
    EXECUTE format('GRANT SELECT ON reelay.watched, reelay.revocation, reelay.secret TO %I', role);
    EXECUTE format('GRANT SELECT, UPDATE ON SEQUENCE reelay.awake TO %I', role);
    EXECUTE format('GRANT SELECT ON SEQUENCE reelay.outbox_id_seq TO %I', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION reelay.history(), reelay.new_log_name(), reelay.extend_log(), reelay.trim_log(interval), '
        'reelay.snapshot(text, text[], integer), reelay.revocation_slack(), reelay.trim_revocations(), reelay.mend_watched(), reelay.watch_problems() TO %I', role);
END$$;
-- +goose StatementEnd

REVOKE ALL ON FUNCTION reelay.missing_triggers(regclass), reelay.watch_problems(), reelay.mend_watched() FROM PUBLIC;

-- Roles that serve already, which alone may update the state, get what 00003 and this file have added.
-- +goose StatementBegin
DO $$
DECLARE
    role name;
BEGIN
    FOR role IN
        SELECT r.rolname FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
        WHERE c.oid = 'reelay.state'::regclass AND a.privilege_type = 'UPDATE' AND a.grantee <> c.relowner
    LOOP
        PERFORM reelay.grant_serve(role);
    END LOOP;
END$$;
-- +goose StatementEnd

-- +goose Down
-- Until the way up is gone again, reelay.grant_serve fails.
DROP FUNCTION reelay.mend_watched(), reelay.watch_problems(), reelay.missing_triggers(regclass);
