CREATE TABLE swarms (
    id          TEXT   PRIMARY KEY,
    account_id  TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    slug        TEXT   NOT NULL,
    description TEXT   NOT NULL,
    icon        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX swarms_slug ON swarms (account_id, slug);
CREATE INDEX swarms_created ON swarms (account_id, created_at, id);
