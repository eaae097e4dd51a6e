-- +goose Up
-- The skills that an agent should have. Their files are in skill_files, with
-- owner_id = id.
CREATE TABLE agent_skills (
    id           TEXT PRIMARY KEY,
    account_id   TEXT    NOT NULL,
    agent_id     TEXT    NOT NULL,
    skill_id     TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    trust_level  TEXT    NOT NULL,
    source       TEXT    NOT NULL, -- where it came from; an upgrade fetches from there
    pin          TEXT    NOT NULL, -- the commit, or the hash of the archive
    digest       TEXT    NOT NULL, -- of all files
    slug         TEXT    NOT NULL, -- its folder in the home
    label        TEXT    NOT NULL, -- the name in its SKILL.md, case-folded
    score        BIGINT  NOT NULL,
    is_enabled   BOOLEAN NOT NULL,
    installed_at BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL
);
CREATE UNIQUE INDEX agent_skills_skill ON agent_skills (account_id, agent_id, skill_id);
CREATE UNIQUE INDEX agent_skills_slug ON agent_skills (account_id, agent_id, slug);
CREATE INDEX agent_skills_count ON agent_skills (trust_level, skill_id);

-- Versions that an account uploaded. A deleted version keeps its row without files, so
-- that its number is never used again for other content.
CREATE TABLE custom_skills (
    id          TEXT PRIMARY KEY,
    account_id  TEXT   NOT NULL,
    skill_id    TEXT   NOT NULL,
    version     TEXT   NOT NULL,
    manifest    TEXT   NOT NULL, -- JSON
    report      TEXT   NOT NULL, -- JSON
    digest      TEXT   NOT NULL,
    size        BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    deleted_at  BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX custom_skills_version ON custom_skills (account_id, skill_id, version);

-- The files of installed skills and uploaded versions.
CREATE TABLE skill_files (
    account_id TEXT NOT NULL,
    owner_id   TEXT NOT NULL,
    path       TEXT NOT NULL,
    hash       TEXT NOT NULL,
    PRIMARY KEY (account_id, owner_id, path)
);
CREATE INDEX skill_files_hash ON skill_files (account_id, hash);

-- File contents by their SHA-256.
CREATE TABLE skill_blobs (
    account_id TEXT  NOT NULL,
    hash       TEXT  NOT NULL,
    data       BYTEA NOT NULL,
    PRIMARY KEY (account_id, hash)
);

-- Every file that was ever written to an agent's home for a skill. A file that no skill
-- needs any more is removed from the home; settled is true after that. Then it is removed
-- again only if it reappears unchanged, for example from an old snapshot of the home.
CREATE TABLE agent_skill_paths (
    account_id TEXT    NOT NULL,
    agent_id   TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    hash       TEXT    NOT NULL,
    settled    BOOLEAN NOT NULL,
    noted_at   BIGINT  NOT NULL,
    PRIMARY KEY (account_id, agent_id, path, hash)
);
