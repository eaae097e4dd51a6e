-- How backups ended, the newest of them. A row is written at the end of a backup, so that the
-- backup does not contain itself. state is complete, incomplete (something is missing in it) or
-- failed. destination has no credentials. held_ms is the longest time that a gateway was held.
CREATE TABLE backups (
    id           TEXT   PRIMARY KEY,
    destination  TEXT   NOT NULL,
    began_at     BIGINT NOT NULL,
    ended_at     BIGINT NOT NULL,
    state        TEXT   NOT NULL,
    problem      TEXT   NOT NULL,
    bytes        BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    held_ms      BIGINT NOT NULL
);
CREATE INDEX backups_ended ON backups (ended_at);
