-- The message of a turn that runs is in its row until the end, when it is appended to the
-- history together with the answer. answer_seq is the answer's seq in messages; 0 if there
-- is none.
ALTER TABLE turns ADD COLUMN answer_seq BIGINT NOT NULL DEFAULT 0;
UPDATE turns SET answer_seq = coalesce((SELECT seq FROM messages WHERE turn_id = turns.id AND role = 'assistant'), 0);
DELETE FROM messages WHERE role = 'user' AND turn_id IN (SELECT id FROM turns WHERE state = 'running');

-- Nothing searches by them: each message of the API wrote to them for nothing.
DROP INDEX messages_turn;
DROP INDEX messages_session;

-- With all columns of the order, the latest session of an owner is found without sorting.
DROP INDEX sessions_owner;
CREATE INDEX sessions_owner ON sessions (account_id, agent_id, owner, entry, started_at, id);
