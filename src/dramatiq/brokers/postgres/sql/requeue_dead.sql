-- Let dead letters start over, as what was sent just now, unless they have moved meanwhile. Their
-- new ids keep `done` from taking them for what they were.
WITH given AS (
    SELECT did, died_at, new_did, payload, number
    FROM unnest(
        %(dids)b::bytea[], %(died)b::bigint[], %(new)b::bytea[], %(payloads)b::bytea[]
    ) WITH ORDINALITY AS given (did, died_at, new_did, payload, number)
), gone AS (
    DELETE FROM {schema}.dead AS dead USING given
    WHERE dead.did = given.did AND dead.died_at = given.died_at
    RETURNING given.new_did, dead.queue, dead.prio, given.payload, given.number
), stored AS (
    INSERT INTO {schema}.messages (did, queue, state, prio, position, payload)
    SELECT new_did, queue, 0, prio, {schema}.now_ms(), payload FROM gone ORDER BY number
)
SELECT count(*), pg_notify(%(channel)s, %(queue)s) FROM gone
