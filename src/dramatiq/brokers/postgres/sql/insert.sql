-- Store messages; one that is stored already is left alone. Whoever waits for them is told when
-- this is committed.
WITH given AS (
    SELECT did, queue, prio, eta, payload, number, {schema}.now_ms() AS now
    FROM unnest(
        %(dids)b::bytea[], %(queues)b::text[], %(prios)b::bigint[], %(etas)b::bigint[],
        %(payloads)b::bytea[]
    ) WITH ORDINALITY AS given (did, queue, prio, eta, payload, number)
), stored AS (
    INSERT INTO {schema}.messages (did, queue, state, prio, position, payload)
    SELECT did, queue, CASE WHEN eta > now THEN 1 ELSE 0 END, prio,
        CASE WHEN eta > now THEN eta ELSE now END, payload
    FROM given ORDER BY number
    ON CONFLICT (did) DO NOTHING
)
SELECT pg_notify(%(channel)s, queue) FROM (SELECT DISTINCT queue FROM given) AS queues
