-- Requests with an Idempotency-Key. fingerprint is an HMAC of the query and the body.
-- holder is the execution that runs now, until lease_until. status, header (JSON) and
-- body are the kept response; status is 0 until there is one.
CREATE TABLE idempotent_requests (
    id           TEXT PRIMARY KEY,
    account_id   TEXT   NOT NULL,
    actor        TEXT   NOT NULL,
    method       TEXT   NOT NULL,
    path         TEXT   NOT NULL,
    key          TEXT   NOT NULL,
    fingerprint  BYTEA  NOT NULL,
    holder       TEXT   NOT NULL,
    lease_until  BIGINT NOT NULL,
    status       BIGINT NOT NULL DEFAULT 0,
    header       TEXT   NOT NULL DEFAULT '{}',
    body         BYTEA,
    expires_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX idempotent_requests_key ON idempotent_requests (account_id, actor, method, path, key);
CREATE INDEX idempotent_requests_expiry ON idempotent_requests (expires_at);

-- The request that appended an event, if it has an Idempotency-Key: a request that is
-- executed again after a crash finds by it what it has done.
ALTER TABLE events ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
CREATE INDEX events_request ON events (account_id, request_id) WHERE request_id <> '';
