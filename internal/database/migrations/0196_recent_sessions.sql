-- The sessions of an account, by their newest message.
CREATE INDEX sessions_recent ON sessions (account_id, max(started_at, last_message_at));
