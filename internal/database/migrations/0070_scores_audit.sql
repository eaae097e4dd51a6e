-- The scanner gives at most 60 to a skill that can make an agent do something. Scores from
-- before that say nothing.
UPDATE agent_skills SET score = 60 WHERE score > 60;

-- An event's number counts the events of its account, and is what callers see: seq counts
-- those of all accounts, so that it showed each account how busy the others are. Both give
-- the same order.
ALTER TABLE events ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
UPDATE events SET number = counted.n FROM (
    SELECT seq, ROW_NUMBER() OVER (PARTITION BY account_id ORDER BY seq) AS n FROM events
) AS counted WHERE counted.seq = events.seq;
DROP INDEX events_account;
CREATE INDEX events_account ON events (account_id, number);
