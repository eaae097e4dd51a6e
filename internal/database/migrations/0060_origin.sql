-- The origin (scheme, host and port) that a secret may be sent to as a credential; empty
-- for a secret that is none, and for keys from before this migration, which a server
-- binds when it starts.
ALTER TABLE secrets ADD COLUMN origin TEXT NOT NULL DEFAULT '';
