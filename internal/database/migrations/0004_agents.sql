-- +goose Up
-- wish counts what was asked of an agent (start, stop, restart, delete); settled
-- is the wish whose outcome status shows; fresh is the last wish that asked for a
-- new gateway; booted is the wish that the present gateway was made for.
CREATE TABLE agents (
    id             TEXT PRIMARY KEY,
    account_id     TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    region         TEXT   NOT NULL,
    avatar_url     TEXT   NOT NULL DEFAULT '',
    config         TEXT   NOT NULL,
    swarm_id       TEXT   NOT NULL DEFAULT '',
    wanted         TEXT   NOT NULL,
    wish           BIGINT NOT NULL,
    settled        BIGINT NOT NULL DEFAULT 0,
    fresh          BIGINT NOT NULL DEFAULT 0,
    booted         BIGINT NOT NULL DEFAULT 0,
    status         TEXT   NOT NULL,
    last_error     TEXT   NOT NULL DEFAULT '',
    error_category TEXT   NOT NULL DEFAULT '',
    place          TEXT   NOT NULL DEFAULT '',
    running_hash   TEXT   NOT NULL DEFAULT '',
    created_at     BIGINT NOT NULL,
    started_at     BIGINT NOT NULL DEFAULT 0,
    stopped_at     BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX agents_account ON agents (account_id, created_at DESC, id DESC);
CREATE INDEX agents_swarm ON agents (account_id, swarm_id) WHERE swarm_id <> '';
-- What the reconciler must look at when the server starts.
CREATE INDEX agents_open ON agents (id) WHERE wanted <> 'stopped' OR settled < wish OR place <> '';
