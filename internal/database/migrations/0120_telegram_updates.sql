-- What Telegram has for an agent that sleeps, until its gateway confirms it. bot is the bot's
-- number: another bot counts its updates anew. content is sealed, as in 0072_sealed_texts.sql, and
-- wakes says that the update wakes the agent.
CREATE TABLE telegram_updates (
    account_id TEXT    NOT NULL,
    agent_id   TEXT    NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    bot        TEXT    NOT NULL,
    update_id  BIGINT  NOT NULL,
    wakes      BOOLEAN NOT NULL,
    content    TEXT    NOT NULL,
    kept_at    BIGINT  NOT NULL,
    PRIMARY KEY (agent_id, bot, update_id)
);

CREATE TRIGGER telegram_updates_stored AFTER INSERT ON telegram_updates BEGIN
    INSERT INTO account_storage (account_id, bytes) VALUES (new.account_id, octet_length(new.content) - CASE typeof(new.content) WHEN 'blob' THEN 29 ELSE 0 END)
    ON CONFLICT (account_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER telegram_updates_removed AFTER DELETE ON telegram_updates BEGIN
    UPDATE account_storage SET bytes = bytes - octet_length(old.content) + CASE typeof(old.content) WHEN 'blob' THEN 29 ELSE 0 END
    WHERE account_id = old.account_id;
END;
