-- Workflows; a row is locked by whoever changes the workflow. Names and ids are compared as bytes.
CREATE TABLE {schema}.flows (
    flow text COLLATE "C" PRIMARY KEY,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX flows_created ON {schema}.flows (created_at, flow);
CREATE INDEX flows_expiry ON {schema}.flows (expires_at);

-- What is known of them. Counters are changed often: with space left in its page, a new version of
-- a row needs no entry in the index.
CREATE TABLE {schema}.flow_fields (
    flow text COLLATE "C",
    name text COLLATE "C",
    value bytea NOT NULL,
    PRIMARY KEY (flow, name)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000
);

-- Workflows, and parts of some, whose messages are not to be run any more.
CREATE TABLE {schema}.flows_cancelled (
    mark text COLLATE "C" PRIMARY KEY,
    expires_at bigint NOT NULL
);

-- Lock workflows until the end of the transaction, in one order; return those that are there, with
-- no name, and fields. As a function: a statement of its own would see what was there before it had
-- the lock. Each field is looked for by itself (OFFSET 0): a join that was planned while the table
-- was small would read all of it when it is large.
CREATE FUNCTION {schema}.lock_flows(locked text[], flows text[], names text[])
    RETURNS TABLE (flow text, name text, value bytea)
    LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT found.flow, NULL::text, NULL::bytea FROM {schema}.flows AS found
        WHERE found.flow = ANY (locked) AND found.expires_at > {schema}.now_ms()
        ORDER BY found.flow FOR NO KEY UPDATE;
    RETURN QUERY
        SELECT wanted.flow, wanted.name, field.value
        FROM unnest(flows, names) AS wanted (flow, name) CROSS JOIN LATERAL (
            SELECT known.value FROM {schema}.flow_fields AS known
            WHERE known.flow = wanted.flow AND known.name = wanted.name OFFSET 0
        ) AS field;
END
$$;

-- What became of messages. An outcome is NULL where it is "done": nearly all are, and no index need
-- know of them.
CREATE TABLE {schema}.history (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ended_at bigint NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    actor_name text COLLATE "C" NOT NULL,
    queue_name text COLLATE "C" NOT NULL,
    outcome text COLLATE "C",
    parent_id text COLLATE "C",
    group_id text COLLATE "C",
    record text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX history_message ON {schema}.history (message_id, position);
CREATE INDEX history_actor ON {schema}.history (actor_name, position);
CREATE INDEX history_queue ON {schema}.history (queue_name, position);
CREATE INDEX history_outcome ON {schema}.history (outcome, position) WHERE outcome IS NOT NULL;
CREATE INDEX history_parent ON {schema}.history (parent_id, position) WHERE parent_id IS NOT NULL;
CREATE INDEX history_group ON {schema}.history (group_id, position) WHERE group_id IS NOT NULL;

-- How many attempts ended in each minute since 1970.
CREATE TABLE {schema}.history_minutes (
    minute bigint,
    queue_name text COLLATE "C",
    actor_name text COLLATE "C",
    outcome text COLLATE "C",
    count bigint NOT NULL,
    PRIMARY KEY (minute, queue_name, actor_name, outcome)
) WITH (fillfactor = 80);

-- What attempts failed of.
CREATE TABLE {schema}.history_failures (
    actor_name text COLLATE "C",
    exception text COLLATE "C",
    count bigint NOT NULL,
    first_seen bigint NOT NULL,
    last_seen bigint NOT NULL,
    sample text NOT NULL,
    PRIMARY KEY (actor_name, exception)
);
CREATE INDEX history_failures_seen ON {schema}.history_failures (last_seen);
