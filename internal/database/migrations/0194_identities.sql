-- Identities of people at an OpenID provider: the issuer and the subject, which a provider never
-- gives to anybody else. email and name are what the provider said last, to be shown; nobody is
-- found by them. A person belongs to no account.
CREATE TABLE identities (
    id         TEXT   NOT NULL PRIMARY KEY,
    issuer     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email      TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL DEFAULT 0,
    UNIQUE (issuer, subject)
);
CREATE INDEX identities_user ON identities (user_id);

-- Visits to a provider that have begun. hash is that of the state, browser that of the cookie of the
-- browser that has begun it. sign_in is the session of a person who links an identity.
CREATE TABLE oidc_visits (
    hash       TEXT   NOT NULL PRIMARY KEY,
    browser    TEXT   NOT NULL,
    purpose    TEXT   NOT NULL,
    sign_in    TEXT   NOT NULL,
    nonce      TEXT   NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX oidc_visits_expiry ON oidc_visits (expires_at);
