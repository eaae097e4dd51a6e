-- Every version of every document. The current version is what the agent's home should
-- hold; it may record a deletion. Other versions are history, or edits of the agent that
-- were set aside because the API had changed the document. The content is the last
-- column, so that reading the other columns does not read it.
CREATE TABLE documents (
    account_id    TEXT    NOT NULL,
    agent_id      TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    version       BIGINT  NOT NULL,
    is_current    BOOLEAN NOT NULL,
    deleted       BOOLEAN NOT NULL,
    set_aside     BOOLEAN NOT NULL,
    restored_from BIGINT  NOT NULL,
    actor         TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    size          BIGINT  NOT NULL,
    hash          TEXT    NOT NULL,
    content       TEXT    NOT NULL,
    PRIMARY KEY (account_id, agent_id, name, version)
);
CREATE UNIQUE INDEX documents_current ON documents (account_id, agent_id, name) WHERE is_current;
-- A home may be on a file system that does not distinguish a.md from A.md.
CREATE UNIQUE INDEX documents_case ON documents (account_id, agent_id, lower(name)) WHERE is_current AND NOT deleted;

-- The version of each document that was last known to be in the agent's home.
CREATE TABLE home_documents (
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    hash       TEXT   NOT NULL,
    PRIMARY KEY (account_id, agent_id, name)
);

-- A digest of the edits that were refused last, so that the same refusals are reported
-- in one event only.
CREATE TABLE document_refusals (
    account_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (account_id, agent_id)
);
