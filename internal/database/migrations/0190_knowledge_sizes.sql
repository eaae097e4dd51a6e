-- How much each knowledge base has, so that a list of them reads no texts. Triggers keep it,
-- as those of account_storage. Bytes are those of texts and metadata.
CREATE TABLE knowledge_sizes (
    account_id TEXT   NOT NULL,
    scope      BIGINT PRIMARY KEY REFERENCES knowledge_scopes (number),
    entries    BIGINT NOT NULL,
    bytes      BIGINT NOT NULL
);
INSERT INTO knowledge_sizes (account_id, scope, entries, bytes)
SELECT account_id, scope, count(*), sum(octet_length(text) + octet_length(metadata)) FROM knowledge_entries GROUP BY account_id, scope;

CREATE TRIGGER knowledge_sizes_stored AFTER INSERT ON knowledge_entries BEGIN
    INSERT INTO knowledge_sizes (account_id, scope, entries, bytes) VALUES (new.account_id, new.scope, 1, octet_length(new.text) + octet_length(new.metadata))
    ON CONFLICT (scope) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER knowledge_sizes_changed AFTER UPDATE OF text, metadata ON knowledge_entries BEGIN
    UPDATE knowledge_sizes SET bytes = bytes + octet_length(new.text) + octet_length(new.metadata) - octet_length(old.text) - octet_length(old.metadata)
    WHERE scope = new.scope;
END;
CREATE TRIGGER knowledge_sizes_removed AFTER DELETE ON knowledge_entries BEGIN
    UPDATE knowledge_sizes SET entries = entries - 1, bytes = bytes - octet_length(old.text) - octet_length(old.metadata) WHERE scope = old.scope;
END;
CREATE TRIGGER knowledge_sizes_moved AFTER UPDATE OF scope ON knowledge_entries BEGIN
    UPDATE knowledge_sizes SET entries = entries - 1, bytes = bytes - octet_length(old.text) - octet_length(old.metadata) WHERE scope = old.scope;
    INSERT INTO knowledge_sizes (account_id, scope, entries, bytes) VALUES (new.account_id, new.scope, 1, octet_length(new.text) + octet_length(new.metadata))
    ON CONFLICT (scope) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
END;
