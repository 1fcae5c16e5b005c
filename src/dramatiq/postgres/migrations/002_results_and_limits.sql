-- What actors returned, by the backend's key.
CREATE TABLE {schema}.results (
    key text PRIMARY KEY,
    value bytea NOT NULL,
    expires_at bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX results_expiry ON {schema}.results (expires_at);

-- Counters of rate limiters and barriers.
CREATE TABLE {schema}.limits (
    key text PRIMARY KEY,
    value bigint NOT NULL,
    expires_at bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX limits_expiry ON {schema}.limits (expires_at);

-- Events of barriers, for those who wait.
CREATE TABLE {schema}.limit_events (
    key text PRIMARY KEY,
    expires_at bigint NOT NULL
);
CREATE INDEX limit_events_expiry ON {schema}.limit_events (expires_at);
