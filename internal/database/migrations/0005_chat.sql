-- +goose Up
-- owner is whose conversation it is: "peer:ID", "key:ID", or "channel:KEY" for
-- one that came through a channel. The newest api session of an owner is its
-- default session.
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

CREATE TABLE messages (
    seq        INTEGER PRIMARY KEY,
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    session_id TEXT   NOT NULL REFERENCES sessions (id),
    role       TEXT   NOT NULL,
    content    TEXT   NOT NULL,
    origin     TEXT,
    at         BIGINT NOT NULL,
    UNIQUE (session_id, origin)
);
CREATE INDEX messages_agent ON messages (account_id, agent_id, at, seq);
CREATE INDEX messages_session ON messages (session_id, at, seq);
