-- Pool servers: the machines that run agents. They belong to the operator and to no account.
-- address is host:port of the sshd; that of local, the server's own machine, is empty. regions are
-- separated by commas; local has none, as it serves every region that no other server does. memory
-- is in bytes; 0, as for agents, is no limit. host_keys are the lines of the keys that were
-- confirmed. public_key and new_key are the lines for authorized_keys: the private keys are in
-- secrets, owned by the id. new_key replaces public_key once it has worked. problem is why nothing
-- is done with the server until its operator has decided. disk_free is -1 if it is unknown.
CREATE TABLE pool_servers (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    login      TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    socket     TEXT   NOT NULL,
    regions    TEXT   NOT NULL,
    memory     BIGINT NOT NULL,
    agents     BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    host_keys  TEXT   NOT NULL,
    public_key TEXT   NOT NULL,
    new_key    TEXT   NOT NULL DEFAULT '',
    problem    TEXT   NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    reached_at BIGINT NOT NULL DEFAULT 0,
    disk_free  BIGINT NOT NULL DEFAULT -1
);
INSERT INTO pool_servers (id, name, login, address, socket, regions, memory, agents, state, host_keys, public_key, created_at)
VALUES ('local', 'local', '', '', '/var/run/docker.sock', '', 0, 0, 'active', '', '', 0);
