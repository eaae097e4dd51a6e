-- Texts of agents are sealed, which is a BLOB, or as they are, which is a TEXT: messages,
-- turns.message, turns.context, turn_pieces.pieces and documents.content. An account is
-- charged for the text: a sealed one is 29 bytes longer.
DROP TRIGGER documents_stored;
DROP TRIGGER documents_changed;
DROP TRIGGER documents_removed;
DROP TRIGGER messages_stored;
DROP TRIGGER messages_changed;
DROP TRIGGER messages_removed;

CREATE TRIGGER documents_stored AFTER INSERT ON documents BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.content) - CASE typeof(new.content) WHEN 'blob' THEN 29 ELSE 0 END)
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER documents_changed AFTER UPDATE OF content ON documents BEGIN
    UPDATE account_storage SET bytes = bytes + octet_length(new.content) - CASE typeof(new.content) WHEN 'blob' THEN 29 ELSE 0 END
        - octet_length(old.content) + CASE typeof(old.content) WHEN 'blob' THEN 29 ELSE 0 END
    WHERE account_id = new.account_id;
END;
CREATE TRIGGER documents_removed AFTER DELETE ON documents BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.content) + CASE typeof(old.content) WHEN 'blob' THEN 29 ELSE 0 END
    WHERE account_id = old.account_id;
END;

CREATE TRIGGER messages_stored AFTER INSERT ON messages BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.content) - CASE typeof(new.content) WHEN 'blob' THEN 29 ELSE 0 END)
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER messages_changed AFTER UPDATE OF content ON messages BEGIN
    UPDATE account_storage SET bytes = bytes + octet_length(new.content) - CASE typeof(new.content) WHEN 'blob' THEN 29 ELSE 0 END
        - octet_length(old.content) + CASE typeof(old.content) WHEN 'blob' THEN 29 ELSE 0 END
    WHERE account_id = new.account_id;
END;
CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.content) + CASE typeof(old.content) WHEN 'blob' THEN 29 ELSE 0 END
    WHERE account_id = old.account_id;
END;
