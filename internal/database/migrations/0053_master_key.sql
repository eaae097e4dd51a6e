-- One row: the master key that sealed the data keys. fingerprint is public. sealed is a
-- known text, sealed by the key: a key that cannot open it is not the database's.
CREATE TABLE master_key (
    fingerprint TEXT PRIMARY KEY,
    sealed      BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL
);
