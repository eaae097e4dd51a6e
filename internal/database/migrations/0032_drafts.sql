-- +goose Up
-- Answers that are still growing, as far as they were saved: one a session, as
-- its turns go one at a time. Those that the server finds when it starts were cut
-- off by its death; at is when they were saved.
CREATE TABLE drafts (
    session_id TEXT   PRIMARY KEY REFERENCES sessions (id),
    account_id TEXT   NOT NULL,
    agent_id   TEXT   NOT NULL,
    content    TEXT   NOT NULL,
    at         BIGINT NOT NULL
);
