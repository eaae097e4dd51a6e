-- +goose Up
-- Unfinished answers of running turns, as they were last saved. A session has at most
-- one, because its turns run one at a time. Drafts found when the server starts are of
-- turns that the previous server did not finish. at is when the draft was saved.
CREATE TABLE drafts (
    session_id TEXT   PRIMARY KEY REFERENCES sessions (id),
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    content    TEXT   NOT NULL,
    at         BIGINT NOT NULL
);
