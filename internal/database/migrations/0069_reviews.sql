-- The review of an agent's edit, which is a version that is set aside. state is pending,
-- approved or rejected. base_hash is the hash of the content that the edit replaces,
-- empty for a new rule: the edit can be approved while the document still has it.
CREATE TABLE document_reviews (
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    base_hash  TEXT   NOT NULL,
    PRIMARY KEY (account_id, agent_id, name, version),
    FOREIGN KEY (account_id, agent_id, name, version) REFERENCES documents (account_id, agent_id, name, version) ON DELETE CASCADE
);
