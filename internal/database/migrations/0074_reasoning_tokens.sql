-- How many of a turn's output tokens were reasoning, as far as that is known.
ALTER TABLE turns ADD COLUMN reasoning_tokens BIGINT NOT NULL DEFAULT 0;
