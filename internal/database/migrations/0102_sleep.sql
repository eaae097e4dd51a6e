-- An agent sleeps while its gateway is suspended, or has no process: power is 'asleep' then.
-- suspension names the suspend for the gateway, wake_wanted is when the first message
-- came that waits for the agent, and woke_at and wake_ms are about the last wake.
ALTER TABLE agents ADD COLUMN suspension TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN wake_wanted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN woke_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN wake_ms BIGINT NOT NULL DEFAULT 0;
