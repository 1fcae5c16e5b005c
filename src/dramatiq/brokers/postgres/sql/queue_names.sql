-- From name to name through the index of each state, for there may be millions of messages. What
-- is leased is not much.
WITH RECURSIVE ready (queue) AS (
    (SELECT queue FROM {schema}.messages WHERE state = 0 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT queue FROM {schema}.messages
        WHERE state = 0 AND queue > ready.queue ORDER BY queue LIMIT 1
    ) FROM ready WHERE queue IS NOT NULL
), delayed (queue) AS (
    (SELECT queue FROM {schema}.messages WHERE state = 1 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT queue FROM {schema}.messages
        WHERE state = 1 AND queue > delayed.queue ORDER BY queue LIMIT 1
    ) FROM delayed WHERE queue IS NOT NULL
), dead (queue) AS (
    (SELECT queue FROM {schema}.dead ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM {schema}.dead WHERE queue > dead.queue ORDER BY queue LIMIT 1)
    FROM dead WHERE queue IS NOT NULL
)
SELECT queue FROM (
    SELECT queue FROM ready
    UNION SELECT queue FROM delayed
    UNION SELECT queue FROM dead
    UNION SELECT queue FROM {schema}.messages WHERE state = 2
    UNION SELECT queue FROM {schema}.paused
) AS names
WHERE queue IS NOT NULL
