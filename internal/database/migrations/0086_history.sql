-- number is the order of the messages of an agent: that in which they became visible. The
-- message of a turn gets it when the turn starts; until it is in this table at the end, it is
-- in turns.message_number. message_numbers has the last number of each agent.
ALTER TABLE messages ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
UPDATE messages SET number = ranked.number
FROM (SELECT seq, row_number() OVER (PARTITION BY account_id, agent_id ORDER BY at, seq) AS number FROM messages) AS ranked WHERE ranked.seq = messages.seq;

-- With all columns that the history is filtered by, so that messages are counted without
-- reading them.
DROP INDEX messages_agent;
CREATE INDEX messages_agent ON messages (account_id, agent_id, number, at, session_id);

CREATE TABLE message_numbers (
    agent_id   TEXT PRIMARY KEY,
    account_id TEXT   NOT NULL,
    last       BIGINT NOT NULL
) WITHOUT ROWID;

ALTER TABLE turns ADD COLUMN message_number BIGINT NOT NULL DEFAULT 0;
UPDATE turns SET message_number = ranked.number
FROM (SELECT position, row_number() OVER (PARTITION BY account_id, agent_id ORDER BY started_at, position)
        + coalesce((SELECT max(number) FROM messages WHERE messages.account_id = t.account_id AND messages.agent_id = t.agent_id), 0) AS number
    FROM turns AS t WHERE state = 'running') AS ranked WHERE ranked.position = turns.position;

INSERT INTO message_numbers (agent_id, account_id, last)
SELECT agent_id, account_id, max(number) FROM (
    SELECT agent_id, account_id, number FROM messages UNION ALL SELECT agent_id, account_id, message_number FROM turns WHERE state = 'running'
) AS numbered GROUP BY agent_id, account_id;

-- number is the order of the sessions of an agent. title is the beginning of the first
-- message, sealed as it is; name, which a caller or a channel has given, is sealed if a
-- caller has given it. A trigger keeps message_count and last_message_at, so that no writer
-- can forget to.
ALTER TABLE sessions ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN message_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN last_message_at BIGINT NOT NULL DEFAULT 0;
UPDATE sessions SET number = ranked.number
FROM (SELECT id, row_number() OVER (PARTITION BY account_id, agent_id ORDER BY started_at, id) AS number FROM sessions) AS ranked WHERE ranked.id = sessions.id;
UPDATE sessions SET message_count = counted.messages, last_message_at = counted.last
FROM (SELECT session_id, count(*) AS messages, max(at) AS last FROM messages GROUP BY session_id) AS counted WHERE counted.session_id = sessions.id;

DROP INDEX sessions_owner;
CREATE INDEX sessions_owner ON sessions (account_id, agent_id, owner, entry, number);
DROP INDEX sessions_agent;
CREATE INDEX sessions_agent ON sessions (account_id, agent_id, number);

CREATE TRIGGER messages_counted AFTER INSERT ON messages BEGIN
    UPDATE sessions SET message_count = message_count + 1, last_message_at = max(last_message_at, new.at) WHERE id = new.session_id;
END;
