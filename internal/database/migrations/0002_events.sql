CREATE TABLE events (
    seq        INTEGER PRIMARY KEY,
    account_id TEXT   NOT NULL,
    topic      TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    data       TEXT   NOT NULL,
    at         BIGINT NOT NULL
);
CREATE INDEX events_account ON events (account_id, seq);
