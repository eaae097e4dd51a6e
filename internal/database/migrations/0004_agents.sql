-- generation counts the requests to start, stop, restart and delete an agent;
-- observed_generation is the one whose outcome status shows; restart_generation is
-- the last that asked for a new gateway; gateway_generation is the one that the
-- present gateway was started for. revision counts the changes of what a gateway's
-- spec is made of: config and swarm_id. search_name is name in lower case, also of
-- letters beyond ASCII, which lower() of SQLite leaves as they are.
--
-- holder is the process that may act on the agent until lease_until; lease_number counts
-- how often the lease was taken, and each write of a holder names it. server is where
-- the home is, and outlives a stop; place is where the gateway runs. failures are the
-- times of the gateway's last failures as JSON; unready_ms is the time that boots took
-- since it was last ready. Both begin anew with each generation.
--
-- shown_status is status, or error if package agent cannot decode the row. It is stored
-- because a list of many agents would take twice as long to compute it.
CREATE TABLE agents (
    id                  TEXT PRIMARY KEY,
    account_id          TEXT   NOT NULL,
    name                TEXT   NOT NULL,
    search_name         TEXT   NOT NULL DEFAULT '',
    region              TEXT   NOT NULL,
    avatar_url          TEXT   NOT NULL DEFAULT '',
    config              TEXT   NOT NULL,
    swarm_id            TEXT   NOT NULL DEFAULT '',
    revision            BIGINT NOT NULL DEFAULT 1,
    desired_state       TEXT   NOT NULL,
    generation          BIGINT NOT NULL,
    observed_generation BIGINT NOT NULL DEFAULT 0,
    restart_generation  BIGINT NOT NULL DEFAULT 0,
    gateway_generation  BIGINT NOT NULL DEFAULT 0,
    status              TEXT   NOT NULL,
    last_error          TEXT   NOT NULL DEFAULT '',
    error_category      TEXT   NOT NULL DEFAULT '',
    server              TEXT   NOT NULL DEFAULT '',
    place               TEXT   NOT NULL DEFAULT '',
    power               TEXT   NOT NULL DEFAULT 'awake',
    holder              TEXT   NOT NULL DEFAULT '',
    lease_number        BIGINT NOT NULL DEFAULT 0,
    lease_until         BIGINT NOT NULL DEFAULT 0,
    failures            TEXT   NOT NULL DEFAULT '',
    unready_ms          BIGINT NOT NULL DEFAULT 0,
    next_try_at         BIGINT NOT NULL DEFAULT 0,
    missed_health_checks BIGINT NOT NULL DEFAULT 0,
    last_used_at        BIGINT NOT NULL DEFAULT 0,
    spec_digest         TEXT   NOT NULL DEFAULT '',
    created_at          BIGINT NOT NULL,
    started_at          BIGINT NOT NULL DEFAULT 0,
    stopped_at          BIGINT NOT NULL DEFAULT 0,
    shown_status        TEXT   GENERATED ALWAYS AS (CASE WHEN json_valid(config) AND (failures = '' OR json_valid(failures))
        AND desired_state IN ('running', 'stopped', 'deleted') AND status IN ('provisioning', 'starting', 'running', 'stopping', 'stopped', 'error')
        AND typeof(revision) = 'integer' AND typeof(generation) = 'integer' AND typeof(observed_generation) = 'integer'
        AND typeof(restart_generation) = 'integer' AND typeof(gateway_generation) = 'integer'
        AND typeof(lease_number) = 'integer' AND typeof(lease_until) = 'integer' AND typeof(unready_ms) = 'integer'
        AND typeof(next_try_at) = 'integer' AND typeof(missed_health_checks) = 'integer' AND typeof(created_at) = 'integer'
        AND typeof(started_at) = 'integer' AND typeof(stopped_at) = 'integer' AND typeof(last_used_at) = 'integer'
        THEN status ELSE 'error' END) STORED
);
CREATE INDEX agents_account ON agents (account_id, created_at DESC, id DESC);
CREATE INDEX agents_swarm ON agents (account_id, swarm_id) WHERE swarm_id <> '';
-- What the reconciler looks at when the server starts.
CREATE INDEX agents_to_reconcile ON agents (id) WHERE desired_state <> 'stopped' OR observed_generation < generation OR place <> '';
-- What a holder renews.
CREATE INDEX agents_held ON agents (holder) WHERE holder <> '';
