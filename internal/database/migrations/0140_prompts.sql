-- A one-shot session serves a single turn and is in no list. It and its turn are deleted ten
-- minutes after the turn has ended; their texts are not in the history.
ALTER TABLE sessions ADD COLUMN one_shot BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE turns ADD COLUMN one_shot BOOLEAN NOT NULL DEFAULT FALSE;

-- What the agent gets with the message of an open turn that has_input, besides its context: what
-- was said before, and images, as a JSON array of data URLs. Both are sealed, as turns.message is.
ALTER TABLE turns ADD COLUMN has_input BOOLEAN NOT NULL DEFAULT FALSE;
CREATE TABLE turn_inputs (
    turn_id    TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    past       TEXT NOT NULL,
    images     TEXT NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER turn_inputs_ended AFTER UPDATE OF state ON turns WHEN new.has_input AND new.state NOT IN ('queued', 'running') BEGIN
    DELETE FROM turn_inputs WHERE turn_id = new.id;
END;

-- By what a request is recognized that repeats the one of a turn. request is an HMAC of the
-- request and of who sent it, and idempotency_key one of its Idempotency-Key and of who sent it;
-- empty: it had none. Rows are deleted ten minutes after the turn has ended.
CREATE TABLE turn_requests (
    turn_id         TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL,
    request         TEXT NOT NULL,
    idempotency_key TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX turn_requests_request ON turn_requests (request);
CREATE INDEX turn_requests_idempotency_key ON turn_requests (idempotency_key) WHERE idempotency_key <> '';
