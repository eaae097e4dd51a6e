-- One row: which installation this database belongs to. Homes of agents carry the same id.
CREATE TABLE installation (
    id         TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);
