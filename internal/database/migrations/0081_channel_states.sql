-- Whether an agent's gateway is connected to a channel, and why not. A row of an earlier
-- gateway_generation says nothing of the present gateway.
CREATE TABLE channel_states (
    account_id         TEXT   NOT NULL,
    agent_id           TEXT   NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    channel            TEXT   NOT NULL,
    gateway_generation BIGINT NOT NULL,
    status             TEXT   NOT NULL,
    error              TEXT   NOT NULL,
    since              BIGINT NOT NULL,
    PRIMARY KEY (agent_id, channel)
);
