-- disabled_at and deleted_at are when the operator disabled or deleted an account; 0: not.
-- removed_at is when nothing of a deleted account was left but this row. resumes is true of
-- the agents that ran when their account was disabled: they start when it is enabled.
ALTER TABLE accounts ADD COLUMN disabled_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN removed_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX accounts_closed ON accounts (id) WHERE disabled_at <> 0 OR deleted_at <> 0;
ALTER TABLE agents ADD COLUMN resumes BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX agents_resuming ON agents (account_id) WHERE resumes;

-- A request that began before its account was deleted must leave nothing behind.
CREATE TRIGGER swarms_of_deleted BEFORE INSERT ON swarms
WHEN EXISTS (SELECT 1 FROM accounts WHERE id = new.account_id AND deleted_at <> 0) BEGIN
    SELECT RAISE(ABORT, 'the account was deleted');
END;
CREATE TRIGGER custom_skills_of_deleted BEFORE INSERT ON custom_skills
WHEN EXISTS (SELECT 1 FROM accounts WHERE id = new.account_id AND deleted_at <> 0) BEGIN
    SELECT RAISE(ABORT, 'the account was deleted');
END;
CREATE TRIGGER knowledge_scopes_of_deleted BEFORE INSERT ON knowledge_scopes
WHEN EXISTS (SELECT 1 FROM accounts WHERE id = new.account_id AND deleted_at <> 0) BEGIN
    SELECT RAISE(ABORT, 'the account was deleted');
END;
CREATE TRIGGER data_keys_of_deleted BEFORE INSERT ON data_keys
WHEN EXISTS (SELECT 1 FROM accounts WHERE id = new.account_id AND deleted_at <> 0) BEGIN
    SELECT RAISE(ABORT, 'the account was deleted');
END;
