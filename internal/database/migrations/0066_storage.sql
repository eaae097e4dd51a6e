-- The bytes of texts and files that each account has stored. Triggers keep them, so that no
-- writer can forget to.
CREATE TABLE account_storage (
    account_id TEXT   PRIMARY KEY,
    bytes      BIGINT NOT NULL
);
INSERT INTO account_storage (account_id, bytes)
SELECT account_id, sum(bytes) FROM (
    SELECT account_id, octet_length(content) AS bytes FROM documents
    UNION ALL SELECT account_id, octet_length(content) FROM messages
    UNION ALL SELECT account_id, octet_length(text) + octet_length(metadata) FROM knowledge_entries
    UNION ALL SELECT account_id, octet_length(data) FROM skill_blobs
) AS stored GROUP BY account_id;

CREATE TRIGGER documents_stored AFTER INSERT ON documents BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.content))
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER documents_changed AFTER UPDATE OF content ON documents BEGIN
    UPDATE account_storage SET bytes = bytes + octet_length(new.content) - octet_length(old.content) WHERE account_id = new.account_id;
END;
CREATE TRIGGER documents_removed AFTER DELETE ON documents BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.content) WHERE account_id = old.account_id;
END;

CREATE TRIGGER messages_stored AFTER INSERT ON messages BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.content))
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER messages_changed AFTER UPDATE OF content ON messages BEGIN
    UPDATE account_storage SET bytes = bytes + octet_length(new.content) - octet_length(old.content) WHERE account_id = new.account_id;
END;
CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.content) WHERE account_id = old.account_id;
END;

CREATE TRIGGER knowledge_entries_stored AFTER INSERT ON knowledge_entries BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.text) + octet_length(new.metadata))
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER knowledge_entries_changed AFTER UPDATE OF text, metadata ON knowledge_entries BEGIN
    UPDATE account_storage SET bytes = bytes + octet_length(new.text) + octet_length(new.metadata) - octet_length(old.text) - octet_length(old.metadata)
    WHERE account_id = new.account_id;
END;
CREATE TRIGGER knowledge_entries_removed AFTER DELETE ON knowledge_entries BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.text) - octet_length(old.metadata) WHERE account_id = old.account_id;
END;

CREATE TRIGGER skill_blobs_stored AFTER INSERT ON skill_blobs BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.data))
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER skill_blobs_removed AFTER DELETE ON skill_blobs BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.data) WHERE account_id = old.account_id;
END;
