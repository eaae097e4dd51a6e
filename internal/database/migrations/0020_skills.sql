-- The skills that are installed on agents. The files of a skill are in skill_files
-- with owner_id = id.
CREATE TABLE agent_skills (
    id           TEXT PRIMARY KEY,
    account_id   TEXT    NOT NULL,
    agent_id     TEXT    NOT NULL,
    skill_id     TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    trust_level  TEXT    NOT NULL,
    source       TEXT    NOT NULL, -- where an upgrade finds the next version
    pin          TEXT    NOT NULL, -- the commit, or the hash of the archive
    digest       TEXT    NOT NULL, -- of all files
    slug         TEXT    NOT NULL, -- the folder in the agent's home
    label        TEXT    NOT NULL, -- the name in SKILL.md, in lower case
    score        BIGINT  NOT NULL,
    is_enabled   BOOLEAN NOT NULL,
    installed_at BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL
);
CREATE UNIQUE INDEX agent_skills_skill ON agent_skills (account_id, agent_id, skill_id);
CREATE UNIQUE INDEX agent_skills_slug ON agent_skills (account_id, agent_id, slug);
CREATE INDEX agent_skills_count ON agent_skills (trust_level, skill_id);

-- The versions of skills that accounts uploaded. A deleted version keeps its row, so
-- that it is never uploaded again with other files; its files are deleted.
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

-- The files of installed skills and of uploaded versions.
CREATE TABLE skill_files (
    account_id TEXT NOT NULL,
    owner_id   TEXT NOT NULL,
    path       TEXT NOT NULL,
    hash       TEXT NOT NULL,
    PRIMARY KEY (account_id, owner_id, path)
);
CREATE INDEX skill_files_hash ON skill_files (account_id, hash);

-- The contents of files, by their SHA-256.
CREATE TABLE skill_blobs (
    account_id TEXT  NOT NULL,
    hash       TEXT  NOT NULL,
    data       BYTEA NOT NULL,
    PRIMARY KEY (account_id, hash)
);

-- Every file that a skill brought into an agent's home. A file that should no longer be
-- there is removed and is_removed set. After that, a file at the same path is removed
-- again only if it has the same content, as after an old snapshot was restored.
CREATE TABLE agent_skill_paths (
    account_id  TEXT    NOT NULL,
    agent_id    TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    hash        TEXT    NOT NULL,
    is_removed  BOOLEAN NOT NULL,
    recorded_at BIGINT  NOT NULL,
    PRIMARY KEY (account_id, agent_id, path, hash)
);
