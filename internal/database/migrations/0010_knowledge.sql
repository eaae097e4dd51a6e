-- A scope is the knowledge base of one agent or swarm: kind is agent or swarm, and
-- target_id is its id. last_seq is the last seq assigned to an entry of the scope.
-- Updating the row serialises the writers of the scope.
CREATE TABLE knowledge_scopes (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    target_id  TEXT   NOT NULL,
    last_seq   BIGINT NOT NULL,
    UNIQUE (account_id, kind, target_id)
);

-- Ids are UUIDv7, which sort in the order in which entries were stored. An id
-- therefore works as a cursor even after its entry was deleted.
CREATE TABLE knowledge_entries (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT   NOT NULL UNIQUE,
    account_id TEXT   NOT NULL,
    scope      BIGINT NOT NULL REFERENCES knowledge_scopes (number),
    seq        BIGINT NOT NULL,
    text       TEXT   NOT NULL,
    source     TEXT   NOT NULL,
    metadata   TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (scope, seq)
);
CREATE INDEX knowledge_entries_id ON knowledge_entries (account_id, scope, id);
CREATE INDEX knowledge_entries_source ON knowledge_entries (account_id, scope, source, id);

-- vector is a little-endian array of float32, of length 1.
CREATE TABLE knowledge_vectors (
    account_id TEXT   NOT NULL,
    entry_id   TEXT   NOT NULL REFERENCES knowledge_entries (id) ON DELETE CASCADE,
    model      TEXT   NOT NULL,
    dimension  BIGINT NOT NULL,
    vector     BYTEA  NOT NULL,
    PRIMARY KEY (entry_id, model)
);

-- Every entry of the scope whose seq is at most through_seq has a vector of the model.
CREATE TABLE knowledge_coverage (
    account_id  TEXT   NOT NULL,
    scope       BIGINT NOT NULL REFERENCES knowledge_scopes (number),
    model       TEXT   NOT NULL,
    through_seq BIGINT NOT NULL,
    PRIMARY KEY (scope, model)
);

-- scope holds one word, such as s12x, so that a search does not read the texts of other
-- scopes.
CREATE VIRTUAL TABLE knowledge_text USING fts5 (
    scope, text, content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE TRIGGER knowledge_text_insert AFTER INSERT ON knowledge_entries BEGIN
    INSERT INTO knowledge_text (rowid, scope, text) VALUES (new.number, 's' || new.scope || 'x', new.text);
END;
CREATE TRIGGER knowledge_text_delete AFTER DELETE ON knowledge_entries BEGIN
    DELETE FROM knowledge_text WHERE rowid = old.number;
END;
CREATE TRIGGER knowledge_text_move AFTER UPDATE OF scope ON knowledge_entries BEGIN
    DELETE FROM knowledge_text WHERE rowid = old.number;
    INSERT INTO knowledge_text (rowid, scope, text) VALUES (new.number, 's' || new.scope || 'x', new.text);
END;
