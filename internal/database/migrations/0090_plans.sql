-- The last known form of each plan of the plans file: an account whose plan is in no file
-- any more keeps its limits. plan is JSON.
CREATE TABLE plans (
    id        TEXT PRIMARY KEY,
    plan      TEXT   NOT NULL,
    stored_at BIGINT NOT NULL
);
