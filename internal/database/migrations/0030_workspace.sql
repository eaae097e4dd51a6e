-- +goose Up
-- Every version of every document. The live one is what the agent has or gets;
-- it may be the note of a deletion. Versions that are not live are history, or
-- an agent's edit that came after a newer one of the API. The content stands
-- last, so that reading the rest does not walk over it.
CREATE TABLE documents (
    account_id    TEXT    NOT NULL,
    agent_id      TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    version       BIGINT  NOT NULL,
    live          BOOLEAN NOT NULL,
    deleted       BOOLEAN NOT NULL,
    aside         BOOLEAN NOT NULL,
    restored_from BIGINT  NOT NULL,
    actor         TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    size          BIGINT  NOT NULL,
    hash          TEXT    NOT NULL,
    content       TEXT    NOT NULL,
    PRIMARY KEY (account_id, agent_id, name, version)
);
CREATE UNIQUE INDEX documents_live ON documents (account_id, agent_id, name) WHERE live;
-- A home may lie on a file system that does not tell a.md from A.md.
CREATE UNIQUE INDEX documents_case ON documents (account_id, agent_id, lower(name)) WHERE live AND NOT deleted;

-- What an agent's home holds, as far as is known.
CREATE TABLE home_documents (
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    hash       TEXT   NOT NULL,
    PRIMARY KEY (account_id, agent_id, name)
);

-- Which edits of an agent were refused last, so that each is told once.
CREATE TABLE document_refusals (
    account_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (account_id, agent_id)
);
