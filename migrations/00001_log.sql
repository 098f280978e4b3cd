-- +goose Up
-- The schema itself is made before the first migration, since it also holds the table of applied versions.

-- Writers insert, the leader deletes. It stays nearly empty, so it needs its primary key only.
-- CACHE 1 is part of a promise: for one row of a watched table, ids follow commit order only when they are drawn one by one.
CREATE TABLE reelay.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    owner text NOT NULL,
    subject text NOT NULL,
    type text NOT NULL,
    data jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    -- A queue is all churn: vacuum it by count, at full speed, and never take the lock that cutting its end needs.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
COMMENT ON TABLE reelay.outbox IS 'Committed changes that have no position yet. Triggers insert, the leader moves them to reelay.log.';

-- 0: the leader sleeps, and writers wake it by NOTIFY. 1: it polls, and they need not.
-- A sequence, because its value is read without regard to snapshots: a writer in REPEATABLE READ sees a change at once.
-- Unlogged where there is such a thing (15 and later): it is set often, and falls back to 0 after a crash.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('CREATE %s SEQUENCE reelay.awake MINVALUE 0 MAXVALUE 1 START 0 CACHE 1',
        CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'UNLOGGED' ELSE '' END);
END$$;
-- +goose StatementEnd

-- One row: who numbers, how far numbering and publishing have come, and which log it is.
CREATE TABLE reelay.state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    log text NOT NULL CHECK (log ~ '^[a-z0-9]{1,32}$'),
    history text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    last_position bigint NOT NULL DEFAULT 0,
    published bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON COLUMN reelay.state.log IS 'Name of the log, the first part of every cursor. A new one whenever positions may be given a second time.';
COMMENT ON COLUMN reelay.state.history IS 'reelay.history() when the log got its name.';
COMMENT ON COLUMN reelay.state.epoch IS 'Raised by each new leader; the drain is fenced by it.';
COMMENT ON COLUMN reelay.state.published IS 'Everything up to this position has been handed to the bus. A new leader publishes again what lies after it.';

-- Every event, in the order of its position. Only the leader inserts. Cut into partitions, since dropping one costs
-- nothing and deleting its rows would double the time writers wait.
CREATE TABLE reelay.log (
    position bigint NOT NULL,
    owner text NOT NULL,
    sequence bigint NOT NULL,
    outbox_id bigint NOT NULL,
    subject text NOT NULL,
    type text NOT NULL,
    data jsonb,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);
CREATE INDEX log_owner ON reelay.log (owner, sequence);

-- The last sequence of each owner. It outlives the log's retention: who was away for months and missed nothing resumes.
CREATE TABLE reelay.owner_head (
    owner text PRIMARY KEY,
    sequence bigint NOT NULL
) WITH (fillfactor = 70);

-- +goose StatementBegin
CREATE FUNCTION reelay.history() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- Which past this database has: another cluster, another database in it, another table (the schema was restored from
    -- a dump) or another timeline (a failover, a restore to a point in time) may hand out the same positions for other
    -- events.
    SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
        || '/' || 'reelay.state'::regclass::oid || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
    FROM pg_control_system();
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.history IS 'Cluster, database, table and timeline: what has to stay the same for a cursor to keep its meaning.';

-- +goose StatementBegin
CREATE FUNCTION reelay.new_log_name() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(replace(gen_random_uuid()::text, '-', ''), 10);
$$;
-- +goose StatementEnd

INSERT INTO reelay.state (log, history) VALUES (reelay.new_log_name(), reelay.history());

-- Positions a partition holds. A retention window is kept to the nearest partition, so this bounds what is kept longer.
-- +goose StatementBegin
CREATE FUNCTION reelay.partition_width() RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 500000::bigint';
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION reelay.extend_log() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Attaching waits for an ANALYZE of the whole log, and the drain would wait with it: there is room, so come back later.
SET lock_timeout = '100ms' AS $$
DECLARE
    width constant bigint := reelay.partition_width();
    current_partition bigint;
    made integer := 0;
    name text;
BEGIN
    SELECT s.last_position / width INTO current_partition FROM reelay.state s;
    FOR n IN current_partition .. current_partition + 2 LOOP
        name := 'log_' || n;
        CONTINUE WHEN to_regclass('reelay.' || name) IS NOT NULL;
        -- Made apart and then attached: attaching lets readers and the drain go on.
        EXECUTE format('CREATE TABLE reelay.%I (LIKE reelay.log INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE reelay.log ATTACH PARTITION reelay.%I FOR VALUES FROM (%s) TO (%s)',
            name, n * width, (n + 1) * width);
        made := made + 1;
    END LOOP;
    RETURN made;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.extend_log IS 'Makes the partition of the last position and the next two, where missing. Returns how many it made. The leader calls it.';

-- +goose StatementBegin
CREATE FUNCTION reelay.trim_log(retention interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- A DROP that waits makes everybody behind it wait, the drain included: try for a moment, and come back later.
SET lock_timeout = '100ms' AS $$
DECLARE
    width constant bigint := reelay.partition_width();
    last bigint;
    n bigint;
    newest timestamptz;
    dropped integer := 0;
BEGIN
    SELECT s.last_position INTO last FROM reelay.state s;
    FOR n IN
        SELECT substr(c.relname, 5)::bigint FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'reelay.log'::regclass AND c.relname ~ '^log_[0-9]+$' ORDER BY 1
    LOOP
        EXIT WHEN (n + 1) * width > last; -- still being filled
        EXECUTE format('SELECT created_at FROM reelay.%I ORDER BY position DESC LIMIT 1', 'log_' || n) INTO newest;
        EXIT WHEN newest > now() - retention;
        EXECUTE format('DROP TABLE reelay.%I', 'log_' || n);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END$$;
-- +goose StatementEnd
COMMENT ON FUNCTION reelay.trim_log IS 'Drops the partitions whose newest event is older than the retention. Returns how many. Fails with lock_not_available where a long reader is in the way.';

SELECT reelay.extend_log();

REVOKE ALL ON FUNCTION reelay.history(), reelay.new_log_name(), reelay.partition_width(), reelay.extend_log(), reelay.trim_log(interval) FROM PUBLIC;

-- +goose Down
DROP FUNCTION reelay.trim_log(interval), reelay.extend_log(), reelay.partition_width();
DROP TABLE reelay.owner_head, reelay.log, reelay.state, reelay.outbox;
DROP FUNCTION reelay.new_log_name(), reelay.history();
DROP SEQUENCE reelay.awake;
