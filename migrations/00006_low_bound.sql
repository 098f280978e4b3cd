-- +goose Up
-- Where a new leader begins to look. Without it, one that takes over behind a dump that runs for hours would wade through
-- all rows that the last leaders moved since, for as long as the dump runs. A leader of the version before leaves it alone.
ALTER TABLE reelay.state ADD outbox_low bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN reelay.state.outbox_low IS 'No row of the outbox has an id up to this one, nor will any. The leader raises it.';

-- +goose Down
ALTER TABLE reelay.state DROP outbox_low;
