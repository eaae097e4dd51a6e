-- How often an agent has been woken.
ALTER TABLE agents ADD COLUMN wakes BIGINT NOT NULL DEFAULT 0;
