-- +goose Up
-- The row of reelay.state has a new version for each batch, and everybody reads it. While a dump runs, none of them can be
-- cleared away, and whoever looks for the living one by a key that all of them share walks past the dead ones. So the key
-- is raised every second, and the row is looked for from its highest end.
SET LOCAL lock_timeout = '2s'; -- behind a dump that reads the table everybody would wait: try again after it
ALTER TABLE reelay.state DROP CONSTRAINT state_pkey;
ALTER TABLE reelay.state ADD generation bigint NOT NULL DEFAULT 0 PRIMARY KEY;
COMMENT ON COLUMN reelay.state.generation IS 'Raised by the leader every second in which there were batches. There is one row; its latest version has the highest.';
COMMENT ON COLUMN reelay.state.one IS 'No key any more: the leader of the version before looks for the row by it.';

-- Who analyzes a table holds a snapshot, too, for seconds where the table is large, and meanwhile the versions take one page
-- after the other. Few of them count as dead soon after, so a threshold of a thousand was never reached, and no page
-- was used again: the table grew for as long as events came.
ALTER TABLE reelay.state SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_cost_delay = 0);

-- +goose Down
ALTER TABLE reelay.state SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE reelay.state RESET (autovacuum_vacuum_cost_delay);
ALTER TABLE reelay.state DROP generation;
ALTER TABLE reelay.state ADD PRIMARY KEY (one);
COMMENT ON COLUMN reelay.state.one IS NULL;
