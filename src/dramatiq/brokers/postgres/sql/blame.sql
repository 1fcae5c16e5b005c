-- Take back what a dead owner was running: later, or never again if it has brought down too many.
WITH given AS (
    SELECT * FROM unnest(%(dids)b::bytea[], %(first)b::bigint[], %(next)b::bigint[])
        AS given (did, first_delay, next_delay)
), later AS (
    UPDATE {schema}.messages AS message
    SET crashes = crashes + 1, owner = NULL, state = 1,
        position = {schema}.now_ms() + CASE crashes WHEN 0 THEN first_delay ELSE next_delay END
    FROM given
    WHERE message.did = given.did AND owner = %(owner)s
        AND crashes + 1 < %(max_crashes)s
    RETURNING message.did, message.queue, message.crashes
), never AS (
    DELETE FROM {schema}.messages
    WHERE did = ANY (%(dids)b::bytea[]) AND owner = %(owner)s
        AND crashes + 1 >= %(max_crashes)s
    RETURNING did, seq, queue, prio, attempts, crashes + 1 AS crashes, payload
), buried AS (
    INSERT INTO {schema}.dead (did, seq, queue, prio, died_at, attempts, crashes, why, payload)
    SELECT did, seq, queue, prio, {schema}.now_ms(), attempts, crashes, %(why)s, payload FROM never
    ON CONFLICT (did) DO UPDATE SET died_at = excluded.died_at, why = excluded.why
)
SELECT did, queue, crashes FROM later UNION ALL SELECT did, queue, crashes FROM never
