-- A chat widget speaks with one agent for the visitors of the websites in origins. Its key is in
-- their pages and no secret; previous_key is valid until previous_key_until. The secret that signs
-- the tokens of visitors is in the vault, and the one before it until previous_secret_until.
-- daily_tokens is 0 without a limit. origins and theme are JSON.
CREATE TABLE widgets (
    id                    TEXT    PRIMARY KEY,
    account_id            TEXT    NOT NULL,
    agent_id              TEXT    NOT NULL,
    name                  TEXT    NOT NULL,
    key                   TEXT    NOT NULL UNIQUE,
    key_number            BIGINT  NOT NULL,
    previous_key          TEXT    NOT NULL,
    previous_key_until    BIGINT  NOT NULL,
    secret_number         BIGINT  NOT NULL,
    previous_secret_until BIGINT  NOT NULL,
    origins               TEXT    NOT NULL,
    theme                 TEXT    NOT NULL,
    greeting              TEXT    NOT NULL,
    daily_messages        BIGINT  NOT NULL,
    daily_tokens          BIGINT  NOT NULL,
    enabled               BOOLEAN NOT NULL,
    created_by            TEXT    NOT NULL,
    created_at            BIGINT  NOT NULL,
    updated_at            BIGINT  NOT NULL
);
CREATE INDEX widgets_created ON widgets (account_id, created_at, id);
CREATE INDEX widgets_agent ON widgets (agent_id);
CREATE UNIQUE INDEX widgets_previous ON widgets (previous_key) WHERE previous_key <> '';

-- What a widget has used in a day of UTC.
CREATE TABLE widget_days (
    account_id TEXT   NOT NULL,
    widget_id  TEXT   NOT NULL REFERENCES widgets (id) ON DELETE CASCADE,
    day        TEXT   NOT NULL,
    messages   BIGINT NOT NULL,
    tokens     BIGINT NOT NULL,
    PRIMARY KEY (widget_id, day)
);

-- Turns of widgets whose tokens are not counted yet: they run, or the server has ended meanwhile.
CREATE TABLE widget_turns (
    turn_id    TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    widget_id  TEXT NOT NULL REFERENCES widgets (id) ON DELETE CASCADE,
    day        TEXT NOT NULL
);
CREATE INDEX widget_turns_widget ON widget_turns (widget_id);
