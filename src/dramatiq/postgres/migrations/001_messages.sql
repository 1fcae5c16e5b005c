-- Milliseconds since 1970 by the server's clock.
CREATE FUNCTION {schema}.now_ms() RETURNS bigint LANGUAGE sql VOLATILE
    AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint';

-- What is still to run: 0 ready, 1 delayed, 2 leased. No statement updates a row but to change its
-- state, which is in the condition of an index: there is nothing to gain from a fill factor. Dead
-- rows are all there is in the end, so they are to be removed while they are few.
CREATE TABLE {schema}.messages (
    did bytea PRIMARY KEY,
    -- The order of arrival.
    seq bigint GENERATED ALWAYS AS IDENTITY,
    queue text NOT NULL,
    state smallint NOT NULL,
    prio bigint NOT NULL,
    -- Milliseconds: when it was sent, or when it is due.
    position bigint NOT NULL,
    owner bigint,
    attempts integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    payload bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX messages_ready ON {schema}.messages (queue, prio, position, seq) WHERE state = 0;
CREATE INDEX messages_delayed ON {schema}.messages (queue, position, seq) WHERE state = 1;
CREATE INDEX messages_leased ON {schema}.messages (owner, queue) WHERE state = 2;

-- What was given up.
CREATE TABLE {schema}.dead (
    did bytea PRIMARY KEY,
    seq bigint NOT NULL,
    queue text NOT NULL,
    prio bigint NOT NULL,
    died_at bigint NOT NULL,
    attempts integer NOT NULL,
    crashes integer NOT NULL,
    why text NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX dead_in_time ON {schema}.dead (queue, died_at, seq);

-- One row for each living worker process. While it has a session of its own (has_lock), that holds
-- an advisory lock on the table's oid and its id. A number is never used again.
CREATE TABLE {schema}.workers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    -- In ticks since the start of the machine, by which a number that is used again is told apart.
    started text NOT NULL,
    has_lock boolean NOT NULL DEFAULT false,
    started_at bigint NOT NULL,
    beat_at bigint NOT NULL,
    -- Where it writes down what it runs; readable on its machine.
    recorders text[] NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 100);

-- Deliveries that ran to their end after their lease was lost: not to be run again.
CREATE TABLE {schema}.done (
    did bytea PRIMARY KEY,
    at bigint NOT NULL
);

-- Queues of which nothing is taken.
CREATE TABLE {schema}.paused (queue text PRIMARY KEY);

-- What was done through the dashboard, by whom.
CREATE TABLE {schema}.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    who text NOT NULL,
    verb text NOT NULL,
    what text NOT NULL,
    count bigint
);
