-- What somebody has seen and does not want to be told again. The id of an item names the state
-- that it is about, so that another state is told.
CREATE TABLE attention_dismissed (
    account_id TEXT   NOT NULL,
    item_id    TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (account_id, item_id)
);
