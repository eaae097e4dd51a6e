-- expires_at is when a key ends; 0: never. A key that was rotated has the secret before as
-- previous, which is valid until previous_until. secret_number counts the secrets of a key.
ALTER TABLE keys ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN secret_number BIGINT NOT NULL DEFAULT 1;
ALTER TABLE keys ADD COLUMN previous_lookup TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN previous_hash BYTEA NOT NULL DEFAULT x'';
ALTER TABLE keys ADD COLUMN previous_until BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX keys_previous ON keys (previous_lookup) WHERE previous_lookup <> '';
