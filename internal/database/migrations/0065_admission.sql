-- The memory that the agent's last gateway was measured to use; 0: it was not measured. The
-- next one is expected to use as much.
ALTER TABLE agents ADD COLUMN memory_bytes BIGINT NOT NULL DEFAULT 0;
