CREATE TABLE accounts (
    id         TEXT PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    plan_id    TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

-- lookup is the first half of hash: keys are found by it, then the whole hash is compared.
CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    account_id TEXT   NOT NULL REFERENCES accounts (id),
    label      TEXT   NOT NULL,
    lookup     TEXT   NOT NULL,
    hash       BYTEA  NOT NULL,
    hint       TEXT   NOT NULL,
    scopes     TEXT   NOT NULL,
    rate_limit BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL DEFAULT 0,
    revoked_at BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX keys_lookup ON keys (lookup);
CREATE INDEX keys_account ON keys (account_id, created_at);
