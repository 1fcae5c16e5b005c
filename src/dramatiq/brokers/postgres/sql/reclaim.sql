-- Give back everything that an owner held, and tell whoever waits for it.
WITH moved AS (
    UPDATE {schema}.messages SET state = 0, owner = NULL
    WHERE state = 2 AND owner = %(owner)s
    RETURNING queue
), counted AS (
    SELECT queue, count(*) AS number FROM moved GROUP BY queue
)
SELECT number, pg_notify(%(channel)s, queue) FROM counted
