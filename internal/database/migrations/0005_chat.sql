-- owner is who talks with the agent: "peer:ID", "key:ID" (the API key of a call that
-- names no peer), or "channel:KEY" for a session of a channel. The latest session of
-- an owner is its default session. gateway_key is the session's key in the gateway.
CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    owner      TEXT   NOT NULL,
    peer_id    TEXT   NOT NULL,
    entry      TEXT   NOT NULL,
    gateway_key TEXT  NOT NULL,
    name       TEXT   NOT NULL DEFAULT '',
    channel    TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    UNIQUE (account_id, agent_id, gateway_key)
);
CREATE INDEX sessions_owner ON sessions (account_id, agent_id, owner, started_at);
CREATE INDEX sessions_agent ON sessions (account_id, agent_id, started_at);

-- gateway_id is the id of a channel's message in the gateway. It prevents saving the
-- message twice. turn_id is the turn of a message of the API.
CREATE TABLE messages (
    seq        INTEGER PRIMARY KEY,
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    session_id TEXT   NOT NULL REFERENCES sessions (id),
    role       TEXT   NOT NULL,
    content    TEXT   NOT NULL,
    gateway_id TEXT,
    turn_id    TEXT,
    at         BIGINT NOT NULL,
    UNIQUE (session_id, gateway_id)
);
CREATE INDEX messages_agent ON messages (account_id, agent_id, at, seq);
CREATE INDEX messages_session ON messages (session_id, at, seq);
CREATE INDEX messages_turn ON messages (turn_id) WHERE turn_id IS NOT NULL;

-- position is the order of the turns of a session. While state is running, only the
-- server named by holder may change the row, until lease_until. last_seq is the number of
-- pieces of an ended turn. message and context are needed to run the turn, and are cleared
-- when it ends.
CREATE TABLE turns (
    position      INTEGER PRIMARY KEY,
    id            TEXT   NOT NULL UNIQUE,
    account_id    TEXT   NOT NULL,
    agent_id      TEXT   NOT NULL,
    session_id    TEXT   NOT NULL REFERENCES sessions (id),
    message       TEXT   NOT NULL,
    context       TEXT   NOT NULL,
    on_disconnect TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    holder        TEXT   NOT NULL,
    lease_until   BIGINT NOT NULL,
    last_seq      BIGINT NOT NULL DEFAULT 0,
    input_tokens  BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    stop_reason   TEXT   NOT NULL DEFAULT '',
    error_code    TEXT   NOT NULL DEFAULT '',
    error_message TEXT   NOT NULL DEFAULT '',
    created_at    BIGINT NOT NULL,
    started_at    BIGINT NOT NULL DEFAULT 0,
    ended_at      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX turns_agent ON turns (account_id, agent_id, position);
CREATE INDEX turns_open ON turns (session_id, position) WHERE state IN ('queued', 'running');

-- The text of turns in pieces, as the gateway sent them. A row has the pieces that were
-- stored together, as a JSON array; seq is the number of the first. They are deleted some
-- minutes after the turn has ended.
CREATE TABLE turn_pieces (
    turn_id TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    pieces  TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (turn_id, seq)
) WITHOUT ROWID;

-- Which server reads an agent's channels, such as Telegram. Only the holder saves their
-- messages, until lease_until. lease_number counts how often the lease was taken.
CREATE TABLE channel_readers (
    agent_id     TEXT PRIMARY KEY,
    account_id   TEXT   NOT NULL,
    holder       TEXT   NOT NULL,
    lease_until  BIGINT NOT NULL,
    lease_number BIGINT NOT NULL
);
