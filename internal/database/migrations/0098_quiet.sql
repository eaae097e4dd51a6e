-- An installation that was restored from a backup has the id of the one that the backup is of
-- as restored_from, and is quiet since quiet_since until its operator activates it; 0: it is
-- not quiet. backup_at is when the backup was made.
ALTER TABLE installation ADD COLUMN restored_from TEXT NOT NULL DEFAULT '';
ALTER TABLE installation ADD COLUMN backup_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE installation ADD COLUMN quiet_since BIGINT NOT NULL DEFAULT 0;
