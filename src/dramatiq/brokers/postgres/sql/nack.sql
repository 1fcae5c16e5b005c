-- Move messages to the dead letters; a payload of NULL leaves it as it is.
WITH given AS (
    SELECT * FROM unnest(%(dids)b::bytea[], %(reasons)b::text[], %(payloads)b::bytea[])
        AS given (did, why, payload)
), gone AS (
    DELETE FROM {schema}.messages
    WHERE did = ANY (%(dids)b::bytea[]) AND owner = %(owner)s
    RETURNING did, seq, queue, prio, attempts, crashes, payload
)
INSERT INTO {schema}.dead (did, seq, queue, prio, died_at, attempts, crashes, why, payload)
SELECT did, gone.seq, gone.queue, gone.prio, {schema}.now_ms(), gone.attempts, gone.crashes,
    given.why, coalesce(given.payload, gone.payload)
FROM gone JOIN given USING (did)
ON CONFLICT (did) DO UPDATE SET died_at = excluded.died_at, why = excluded.why
RETURNING did
