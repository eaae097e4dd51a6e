-- The full-text index has the terms that package fulltext makes of a text: words in
-- knowledge_text, and parts of words and of texts without blanks in knowledge_parts. scope
-- holds one word, such as s12x, so that a search does not read the texts of other scopes.
DROP TRIGGER knowledge_text_insert;
DROP TRIGGER knowledge_text_delete;
DROP TRIGGER knowledge_text_move;
DROP TABLE knowledge_text;

CREATE VIRTUAL TABLE knowledge_text USING fts5 (
    scope, text, content = '', contentless_delete = 1, tokenize = 'ascii'
);
CREATE VIRTUAL TABLE knowledge_parts USING fts5 (
    scope, text, content = '', contentless_delete = 1, tokenize = 'ascii'
);
INSERT INTO knowledge_text (rowid, scope, text) SELECT number, 's' || scope || 'x', fulltext_words(text) FROM knowledge_entries;
INSERT INTO knowledge_parts (rowid, scope, text) SELECT number, 's' || scope || 'x', fulltext_parts(text) FROM knowledge_entries;

CREATE TRIGGER knowledge_text_insert AFTER INSERT ON knowledge_entries BEGIN
    INSERT INTO knowledge_text (rowid, scope, text) VALUES (new.number, 's' || new.scope || 'x', fulltext_words(new.text));
    INSERT INTO knowledge_parts (rowid, scope, text) VALUES (new.number, 's' || new.scope || 'x', fulltext_parts(new.text));
END;
CREATE TRIGGER knowledge_text_delete AFTER DELETE ON knowledge_entries BEGIN
    DELETE FROM knowledge_text WHERE rowid = old.number;
    DELETE FROM knowledge_parts WHERE rowid = old.number;
END;
CREATE TRIGGER knowledge_text_move AFTER UPDATE OF scope ON knowledge_entries BEGIN
    DELETE FROM knowledge_text WHERE rowid = old.number;
    INSERT INTO knowledge_text (rowid, scope, text) VALUES (new.number, 's' || new.scope || 'x', fulltext_words(new.text));
    DELETE FROM knowledge_parts WHERE rowid = old.number;
    INSERT INTO knowledge_parts (rowid, scope, text) VALUES (new.number, 's' || new.scope || 'x', fulltext_parts(new.text));
END;
