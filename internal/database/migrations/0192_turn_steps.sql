-- source is through what the message of a turn came: api, dashboard, openai, mcp, widget or
-- operator; empty for turns from before this column.
ALTER TABLE turns ADD COLUMN source TEXT NOT NULL DEFAULT '';

-- The calls of tools of a turn that has ended, as a sealed JSON array. A turn without any has
-- no row.
CREATE TABLE turn_steps (
    turn_id    TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    steps      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX turn_steps_agent ON turn_steps (account_id, agent_id);

-- An account is charged for them as for messages.
CREATE TRIGGER turn_steps_stored AFTER INSERT ON turn_steps BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.steps) - CASE typeof(new.steps) WHEN 'blob' THEN 29 ELSE 0 END)
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER turn_steps_removed AFTER DELETE ON turn_steps BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.steps) + CASE typeof(old.steps) WHEN 'blob' THEN 29 ELSE 0 END
    WHERE account_id = old.account_id;
END;
