-- The model calls of each hour, summed. hour is its start in Unix milliseconds. Empty are session_id for calls
-- that belong to no session, peer_id for sessions without a peer and for deleted agents, key_id for turns that no
-- API key has begun, swarm_id for agents that were in no swarm. input_tokens are without those that were read from
-- the provider's cache or written to it, output_tokens with reasoning_tokens. cost_micros is the price, in
-- millionths of a dollar, of all but unpriced_requests; estimated_requests are those whose tokens no provider has
-- reported.
ALTER TABLE usage RENAME TO usage_before;
CREATE TABLE usage (
    account_id         TEXT   NOT NULL,
    hour               BIGINT NOT NULL,
    agent_id           TEXT   NOT NULL,
    session_id         TEXT   NOT NULL,
    peer_id            TEXT   NOT NULL,
    provider           TEXT   NOT NULL,
    model              TEXT   NOT NULL,
    key_id             TEXT   NOT NULL,
    swarm_id           TEXT   NOT NULL,
    requests           BIGINT NOT NULL,
    estimated_requests BIGINT NOT NULL,
    unpriced_requests  BIGINT NOT NULL,
    input_tokens       BIGINT NOT NULL,
    output_tokens      BIGINT NOT NULL,
    reasoning_tokens   BIGINT NOT NULL,
    cache_read_tokens  BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    cost_micros        BIGINT NOT NULL,
    PRIMARY KEY (account_id, hour, agent_id, session_id, peer_id, provider, model, key_id, swarm_id)
);
INSERT INTO usage
    SELECT account_id, hour, agent_id, session_id, peer_id, provider, model, '', '', requests, 0, requests, input_tokens, output_tokens, 0, cache_read_tokens, cache_write_tokens, 0
    FROM usage_before;
DROP TABLE usage_before;
CREATE INDEX usage_agent ON usage (account_id, agent_id, hour);
