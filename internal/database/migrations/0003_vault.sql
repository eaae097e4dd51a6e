-- One data key per owner (an agent, a swarm, the installation), sealed by the master key.
-- revision counts the changes of the owner's secrets.
CREATE TABLE data_keys (
    account_id TEXT   NOT NULL,
    owner_id   TEXT   NOT NULL,
    master_id  TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, owner_id)
);

CREATE TABLE secrets (
    account_id TEXT   NOT NULL,
    owner_id   TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, owner_id, name)
);
