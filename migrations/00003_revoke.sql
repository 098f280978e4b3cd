-- +goose Up
-- Who is let in no more, and a secret that all replicas share. A replica of the version before knows of neither.

-- Insert-only, so that callers share nothing but the table. Each call makes two rows: one when it is made, without a
-- time, and when the transaction commits a second one, with the time of that moment. Replicas read those with a time.
CREATE TABLE reelay.revocation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    user_id text,
    token_id text,
    reason text,
    at timestamptz,
    until timestamptz NOT NULL,
    CHECK (num_nonnulls(user_id, token_id) = 1)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);
CREATE INDEX revocation_xid ON reelay.revocation (xid) WHERE at IS NOT NULL;
COMMENT ON TABLE reelay.revocation IS 'Users whose sockets were closed, and tokens that are refused. reelay.disconnect and reelay.revoke_token insert, replicas read, the leader deletes.';
COMMENT ON COLUMN reelay.revocation.xid IS 'The transaction of the call. A replica asks for those that its last snapshot may not have seen.';
COMMENT ON COLUMN reelay.revocation.at IS 'When the transaction committed: a user''s tokens issued up to then are refused. NULL where it says no more than that the call was made.';

-- A token that is issued while the transaction of the call is under way is one of those that the call is meant for; so
-- what counts is the time of the commit, as near as a trigger can come to it. An UPDATE would say it with one row, but
-- would read, and what a serializable transaction reads may make another one fail.
-- +goose StatementBegin
CREATE FUNCTION reelay.stamp_revocation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reelay, pg_temp AS $$
BEGIN
    INSERT INTO revocation (user_id, token_id, reason, at, until)
    VALUES (NEW.user_id, NEW.token_id, NEW.reason, clock_timestamp(), NEW.until);
    RETURN NULL;
END$$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER stamp AFTER INSERT ON reelay.revocation DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.at IS NULL) EXECUTE FUNCTION reelay.stamp_revocation();
-- Also in a session that replays another's changes (session_replication_role).
ALTER TABLE reelay.revocation ENABLE ALWAYS TRIGGER stamp;

-- +goose StatementBegin
CREATE FUNCTION reelay.check_revoked(call text, what text, name text, until timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- What no verified token can hold is a mistake of the caller's: nobody would be shut out by it.
    IF name IS NULL OR octet_length(name) NOT BETWEEN 1 AND 256 THEN
        RAISE EXCEPTION '%: % must be 1 to 256 bytes of text', call, what USING ERRCODE = 'invalid_parameter_value',
            HINT = format('Give the %s as it stands in the token.', replace(what, '_', ' '));
    -- Outside of UTF-8 a byte from 0x80 to 0x9f may be part of a letter.
    ELSIF name ~ '[\u0001-\u001F\u007F]' OR getdatabaseencoding() = 'UTF8' AND name ~ '[\u0080-\u009F]' THEN
        RAISE EXCEPTION '%: % has control characters', call, what USING ERRCODE = 'invalid_parameter_value',
            HINT = format('No token with such a %s is accepted, so there is nothing to refuse. Check where the value comes from.', replace(what, '_', ' '));
    ELSIF until IS NULL THEN
        RAISE EXCEPTION '%: until must be a time', call USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give the time at which the last token in question expires, or ''infinity'', or leave it out for 30 days.';
    END IF;
END$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.disconnect(user_id text, reason text DEFAULT NULL, until timestamptz DEFAULT now() + interval '30 days') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reelay, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM check_revoked('reelay.disconnect', 'user_id', user_id, until);
    INSERT INTO revocation (user_id, reason, until) VALUES (user_id, left(reason, 256), until);
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.disconnect IS 'Closes all sockets of a user when and if this transaction commits, and refuses the tokens issued to the user before that, until a time after which none of them is valid anyway. Tokens issued in a later second are accepted.';

-- +goose StatementBegin
CREATE FUNCTION reelay.revoke_token(token_id text, until timestamptz DEFAULT now() + interval '30 days') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, reelay, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    PERFORM check_revoked('reelay.revoke_token', 'token_id', token_id, until);
    INSERT INTO revocation (token_id, until) VALUES (token_id, until);
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.revoke_token IS 'Closes the sockets of a token (its claim jti) when and if this transaction commits, and refuses it until a time, such as its expiry.';

-- Clocks differ, and a verifier bears with a token for a while after its expiry: a revocation lasts as much longer.
-- +goose StatementBegin
CREATE FUNCTION reelay.revocation_slack() RETURNS interval
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$SELECT interval '5 minutes'$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.trim_revocations() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    trimmed integer;
BEGIN
    DELETE FROM reelay.revocation r WHERE r.at IS NULL; -- its transaction has ended, and the second row has all
    DELETE FROM reelay.revocation r WHERE r.until <= now() - reelay.revocation_slack();
    GET DIAGNOSTICS trimmed = ROW_COUNT;
    RETURN trimmed;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.trim_revocations IS 'Deletes the revocations that are over. Returns how many. The leader calls it.';

-- With it replicas sign what they say to each other. 366 random bits, of which SHA-256 keeps 256.
CREATE TABLE reelay.secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL CHECK (octet_length(secret) >= 32)
);
COMMENT ON TABLE reelay.secret IS 'What all replicas know, and nobody else: keys are derived from it. A dump of this database holds it too.';
INSERT INTO reelay.secret (secret)
SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- What the role that serves needs of all this, 00005 gives it.

-- As before, the functions are executable by whom the owner names: GRANT EXECUTE ON FUNCTION reelay.disconnect TO app.
REVOKE ALL ON FUNCTION reelay.stamp_revocation(), reelay.check_revoked(text, text, text, timestamptz), reelay.disconnect(text, text, timestamptz),
    reelay.revoke_token(text, timestamptz), reelay.revocation_slack(), reelay.trim_revocations() FROM PUBLIC;

-- +goose Down
DROP TABLE reelay.secret, reelay.revocation;
DROP FUNCTION reelay.trim_revocations(), reelay.revocation_slack(), reelay.revoke_token(text, timestamptz), reelay.disconnect(text, text, timestamptz),
    reelay.check_revoked(text, text, text, timestamptz), reelay.stamp_revocation();
