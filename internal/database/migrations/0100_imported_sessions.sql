-- A session that was imported with its agent. Its texts come from a file that somebody has
-- sent: they are shown as such, and no message continues it.
ALTER TABLE sessions ADD COLUMN imported BOOLEAN NOT NULL DEFAULT FALSE;
