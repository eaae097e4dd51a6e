-- Bearer tokens of an agent are derived from its data key and a generation. token_generation
-- is the newest; held_generation is the one that the agent's gateway is known to have;
-- older ones down to valid_generation are valid for a while after tokens_raised_at. 0 is the
-- generation of tokens from before there were generations.
ALTER TABLE data_keys ADD COLUMN token_generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE data_keys ADD COLUMN held_generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE data_keys ADD COLUMN valid_generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE data_keys ADD COLUMN tokens_raised_at BIGINT NOT NULL DEFAULT 0;
