-- +goose Up
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
-- message twice.
CREATE TABLE messages (
    seq        INTEGER PRIMARY KEY,
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    session_id TEXT   NOT NULL REFERENCES sessions (id),
    role       TEXT   NOT NULL,
    content    TEXT   NOT NULL,
    gateway_id TEXT,
    at         BIGINT NOT NULL,
    UNIQUE (session_id, gateway_id)
);
CREATE INDEX messages_agent ON messages (account_id, agent_id, at, seq);
CREATE INDEX messages_session ON messages (session_id, at, seq);
