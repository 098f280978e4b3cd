// The other side of the story: a trigger of the test's own writes down who owned what when it changed. What the
// browser received is compared with that, and not with anything that Reelay says of itself.

import { execFileSync } from "node:child_process";

const setup = `
CREATE TABLE audit (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  owner text NOT NULL, type text NOT NULL, video text NOT NULL, status text
);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO audit (owner, type, video, status) VALUES (NEW.user_id, 'video.created', NEW.id, NEW.processing_status);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO audit (owner, type, video) VALUES (OLD.user_id, 'video.deleted', OLD.id);
  ELSIF NEW.user_id <> OLD.user_id THEN
    INSERT INTO audit (owner, type, video) VALUES (OLD.user_id, 'video.removed', OLD.id);
    INSERT INTO audit (owner, type, video, status) VALUES (NEW.user_id, 'video.added', NEW.id, NEW.processing_status);
  ELSIF NEW.processing_status <> OLD.processing_status THEN
    INSERT INTO audit (owner, type, video, status) VALUES (NEW.user_id, 'video.updated', NEW.id, NEW.processing_status);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON videos FOR EACH ROW EXECUTE FUNCTION audit();`;

export class Audit {
  #database;

  constructor(database) {
    this.#database = database;
    this.#psql(setup);
  }

  // changes returns what was committed for an owner after a number, video by video in commit order.
  changes(owner, after = 0) {
    return this.#rows(`SELECT number, extract(epoch FROM at) * 1000 AS at, type, video, status FROM audit
      WHERE owner = '${owner}' AND number > ${after} ORDER BY number`);
  }

  // last returns the highest number so far.
  last() {
    return this.#rows("SELECT coalesce(max(number), 0) AS number FROM audit")[0].number;
  }

  // everOwned returns the videos that were ever an owner's, before the audit or during it.
  everOwned(owner) {
    return new Set(this.#rows(`SELECT id AS video FROM videos WHERE user_id = '${owner}'
      UNION SELECT video FROM audit WHERE owner = '${owner}'`).map((row) => row.video));
  }

  #rows(query) {
    return JSON.parse(this.#psql(`SELECT coalesce(json_agg(found), '[]') FROM (${query}) AS found`));
  }

  #psql(statement) {
    const args = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", this.#database, "--command", statement];
    return execFileSync("psql", args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  }
}
