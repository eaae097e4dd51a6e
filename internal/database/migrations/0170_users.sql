-- People who sign in. A person belongs to no account: memberships say in which accounts it is.
-- password is empty if it has none. totp_at is when the second factor was set up; 0: there is
-- none. totp_step is the last time step whose code was used. in_account is the account that
-- the person was in last. Columns that name an account and are not account_id do not make a
-- row the account's.
CREATE TABLE users (
    id           TEXT    NOT NULL PRIMARY KEY,
    email        TEXT    NOT NULL UNIQUE,
    name         TEXT    NOT NULL,
    password     TEXT    NOT NULL DEFAULT '',
    operator     BOOLEAN NOT NULL DEFAULT FALSE,
    totp_at      BIGINT  NOT NULL DEFAULT 0,
    totp_step    BIGINT  NOT NULL DEFAULT 0,
    in_account   TEXT    NOT NULL DEFAULT '',
    created_at   BIGINT  NOT NULL,
    signed_in_at BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE memberships (
    account_id TEXT   NOT NULL,
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);
CREATE TRIGGER memberships_of_deleted BEFORE INSERT ON memberships
WHEN EXISTS (SELECT 1 FROM accounts WHERE id = new.account_id AND deleted_at <> 0) BEGIN
    SELECT RAISE(ABORT, 'the account was deleted');
END;

-- hash is that of the token in the cookie.
CREATE TABLE sign_ins (
    id         TEXT   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL UNIQUE,
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    in_account TEXT   NOT NULL,
    method     TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    agent      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sign_ins_user ON sign_ins (user_id);

-- Sign-ins of which the second factor is missing.
CREATE TABLE sign_in_challenges (
    hash       TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    method     TEXT   NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sign_in_challenges_user ON sign_in_challenges (user_id);

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash    TEXT NOT NULL,
    PRIMARY KEY (user_id, hash)
);

-- Wrong passwords and codes. subject is a hash of an e-mail address, which may be nobody's.
CREATE TABLE sign_in_tries (
    subject TEXT   NOT NULL PRIMARY KEY,
    count   BIGINT NOT NULL,
    since   BIGINT NOT NULL
);

-- One-time links. account_id is empty for those that belong to no account.
CREATE TABLE user_links (
    id         TEXT   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL UNIQUE,
    kind       TEXT   NOT NULL,
    account_id TEXT   NOT NULL,
    user_id    TEXT   REFERENCES users (id) ON DELETE CASCADE,
    email      TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    created_by TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL DEFAULT 0,
    ended_at   BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX user_links_account ON user_links (account_id, kind);
CREATE INDEX user_links_user ON user_links (user_id);

CREATE TABLE swarm_members (
    account_id TEXT   NOT NULL,
    swarm_id   TEXT   NOT NULL REFERENCES swarms (id) ON DELETE CASCADE,
    user_id    TEXT   NOT NULL,
    added_at   BIGINT NOT NULL,
    PRIMARY KEY (swarm_id, user_id),
    FOREIGN KEY (account_id, user_id) REFERENCES memberships (account_id, user_id) ON DELETE CASCADE
);
CREATE INDEX swarm_members_account ON swarm_members (account_id, user_id);
