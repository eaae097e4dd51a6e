-- The further sources of an entry whose text several sources have; knowledge_entries has the
-- first. An entry whose first source is deleted passes to the next.
CREATE TABLE knowledge_sources (
    account_id TEXT   NOT NULL,
    scope      BIGINT NOT NULL REFERENCES knowledge_scopes (number),
    entry_id   TEXT   NOT NULL REFERENCES knowledge_entries (id) ON DELETE CASCADE,
    source     TEXT   NOT NULL,
    metadata   TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (entry_id, source)
);
CREATE INDEX knowledge_sources_source ON knowledge_sources (account_id, scope, source, entry_id);

CREATE TRIGGER knowledge_sources_move AFTER UPDATE OF scope ON knowledge_entries BEGIN
    UPDATE knowledge_sources SET scope = new.scope WHERE entry_id = new.id;
END;
CREATE TRIGGER knowledge_sources_first AFTER UPDATE OF source ON knowledge_entries BEGIN
    DELETE FROM knowledge_sources WHERE entry_id = new.id AND source = new.source;
END;

CREATE TRIGGER knowledge_sources_stored AFTER INSERT ON knowledge_sources BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.source) + octet_length(new.metadata))
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER knowledge_sources_changed AFTER UPDATE OF metadata ON knowledge_sources BEGIN
    UPDATE account_storage SET bytes = bytes + octet_length(new.metadata) - octet_length(old.metadata) WHERE account_id = new.account_id;
END;
CREATE TRIGGER knowledge_sources_removed AFTER DELETE ON knowledge_sources BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.source) - octet_length(old.metadata) WHERE account_id = old.account_id;
END;
