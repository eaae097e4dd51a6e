-- When the present trouble of an agent began: its last error got its category then. 0 without an
-- error, and for errors from before this migration.
ALTER TABLE agents ADD COLUMN error_since BIGINT NOT NULL DEFAULT 0;
CREATE TRIGGER agents_error_since AFTER UPDATE OF last_error, error_category, status ON agents
WHEN (new.last_error <> '' OR new.status = 'error') <> (old.last_error <> '' OR old.status = 'error') OR new.error_category <> old.error_category BEGIN
    UPDATE agents SET error_since = CASE WHEN new.last_error <> '' OR new.status = 'error' THEN CAST(unixepoch('subsec') * 1000 AS INTEGER) ELSE 0 END WHERE id = new.id;
END;
-- What waits for approval, of all agents of an account.
CREATE INDEX document_reviews_pending ON document_reviews (account_id) WHERE state = 'pending';
-- The skills that an account may want to look at.
CREATE INDEX agent_skills_score ON agent_skills (account_id, score);
