-- The tokens of model calls, summed by hour. hour is its start in Unix milliseconds.
-- session_id is empty for calls that belong to no session.
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
