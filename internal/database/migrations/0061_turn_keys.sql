-- key_id is the API key that sent the message of a turn; empty if no key did, and for turns
-- from before this column. Open turns are cancelled when their key is revoked.
ALTER TABLE turns ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
