-- +goose Up
-- What model calls cost, in tokens, per hour; hour is when it began. An empty
-- session_id are calls that belong to no session.
CREATE TABLE usage (
    account_id         TEXT   NOT NULL,
    agent_id           TEXT   NOT NULL,
    hour               BIGINT NOT NULL,
    session_id         TEXT   NOT NULL,
    peer_id            TEXT   NOT NULL,
    provider           TEXT   NOT NULL,
    model              TEXT   NOT NULL,
    requests           BIGINT NOT NULL,
    input_tokens       BIGINT NOT NULL,
    output_tokens      BIGINT NOT NULL,
    cache_read_tokens  BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    PRIMARY KEY (account_id, agent_id, hour, session_id, peer_id, provider, model)
);
