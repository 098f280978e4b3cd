-- +goose Up
-- The same for the index of the log, by an operator class: the column stays as it is. To look for one owner is to ask for
-- equal bytes with either index, so a replica of the version before works with it.
--
-- It has a transaction of its own: the leader locks the log and reelay.owner_head, too, and in an order of its own.
SET LOCAL lock_timeout = '2s'; -- behind a dump that reads the log everybody would wait: try again after it

-- +goose StatementBegin
DO $$
DECLARE
    n bigint;
BEGIN
    LOCK TABLE ONLY reelay.log IN ACCESS SHARE MODE; -- no partition is dropped meanwhile
    -- First the partitions that are full. Nobody writes to them, so nobody waits. While this goes on, others fill up.
    LOOP
        SELECT min(p.n) INTO n FROM (
            SELECT substr(c.relname, 5)::bigint FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'reelay.log'::regclass AND c.relname ~ '^log_[0-9]+$'
        ) p (n), reelay.state s
        WHERE (p.n + 1) * reelay.partition_width() <= s.last_position AND to_regclass(format('reelay.log_%s_owner', p.n)) IS NULL;
        EXIT WHEN n IS NULL;
        EXECUTE format('CREATE INDEX %I ON reelay.%I (owner text_pattern_ops, sequence)', format('log_%s_owner', n), format('log_%s', n));
    END LOOP;
    -- Then the one that is being filled. The leader waits, before it locks that one, and readers do not.
    LOCK TABLE ONLY reelay.log IN SHARE MODE;
    CREATE INDEX log_owner_bytes ON reelay.log (owner text_pattern_ops, sequence); -- takes those that are there
END$$;
-- +goose StatementEnd

DROP INDEX reelay.log_owner;
ALTER INDEX reelay.log_owner_bytes RENAME TO log_owner;

-- +goose Down
CREATE INDEX log_owner_text ON reelay.log (owner, sequence);
DROP INDEX reelay.log_owner;
ALTER INDEX reelay.log_owner_text RENAME TO log_owner;
