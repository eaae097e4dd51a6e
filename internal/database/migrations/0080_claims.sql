-- A digest of a secret that only one owner of the installation may have, such as the token
-- of a bot; empty for other secrets, and for those that another owner had first. Secrets
-- from before this migration are claimed when a server starts.
ALTER TABLE secrets ADD COLUMN claim TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX secrets_claim ON secrets (claim) WHERE claim <> '';
