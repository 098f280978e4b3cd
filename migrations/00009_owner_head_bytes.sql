-- +goose Up
-- Owners are told apart by their bytes, and so they are sorted by them too: to compare two by the rules of a language, as
-- most databases do by default, takes many times as long, and the leader does it some fifty times for each event.
--
-- The table stays as it is, and its index is made anew: about a second for a million owners, in which readers and the
-- leader wait. A replica of the version before works with it, after an error for each connection that has the old type of
-- the column in a prepared statement.
SET LOCAL lock_timeout = '2s'; -- behind a dump that reads the table everybody would wait: try again after it
ALTER TABLE reelay.owner_head ALTER owner TYPE text COLLATE "C";

-- +goose Down
ALTER TABLE reelay.owner_head ALTER owner TYPE text COLLATE "default";
