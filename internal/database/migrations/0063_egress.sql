-- Where agents connect to. Rows are bounded for each agent.
--
-- The address of each name that an agent has resolved: programs keep addresses, so they
-- must mean the same after a restart of the server.
CREATE TABLE egress_names (
    account_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    name       TEXT NOT NULL,
    address    BIGINT NOT NULL,
    given_at   BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    PRIMARY KEY (agent_id, name)
);

-- Traffic by destination. The row with an empty host sums those that were dropped.
CREATE TABLE egress_destinations (
    account_id  TEXT NOT NULL,
    agent_id    TEXT NOT NULL,
    host        TEXT NOT NULL,
    port        BIGINT NOT NULL,
    connections BIGINT NOT NULL,
    failed      BIGINT NOT NULL,
    bytes_in    BIGINT NOT NULL,
    bytes_out   BIGINT NOT NULL,
    last_at     BIGINT NOT NULL,
    PRIMARY KEY (agent_id, host, port)
);

-- What was refused, and why.
CREATE TABLE egress_refused (
    account_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    host       TEXT NOT NULL,
    port       BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    detail     TEXT NOT NULL,
    refused    BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (agent_id, host, port, reason)
);
