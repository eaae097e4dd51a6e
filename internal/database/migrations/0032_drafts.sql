-- +goose Up
-- The saved part of answers that are not complete: at most one per session, because its
-- turns run one at a time. A draft that exists when the server starts was interrupted
-- by a crash. at is when it was saved.
CREATE TABLE drafts (
    session_id TEXT   PRIMARY KEY REFERENCES sessions (id),
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    content    TEXT   NOT NULL,
    at         BIGINT NOT NULL
);
