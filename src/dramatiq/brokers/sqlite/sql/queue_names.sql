-- From name to name through the index of each state, for there may be millions of messages. What
-- is leased has no index by queue and is not much.
WITH RECURSIVE
    ready (queue) AS (
        SELECT min(queue) FROM messages WHERE state = 0
        UNION ALL
        SELECT (SELECT min(queue) FROM messages WHERE state = 0 AND queue > ready.queue)
        FROM ready WHERE queue IS NOT NULL
    ),
    delayed (queue) AS (
        SELECT min(queue) FROM messages WHERE state = 1
        UNION ALL
        SELECT (SELECT min(queue) FROM messages WHERE state = 1 AND queue > delayed.queue)
        FROM delayed WHERE queue IS NOT NULL
    ),
    dead (queue) AS (
        SELECT min(queue) FROM messages WHERE state = 3
        UNION ALL
        SELECT (SELECT min(queue) FROM messages WHERE state = 3 AND queue > dead.queue)
        FROM dead WHERE queue IS NOT NULL
    ),
    names (queue) AS (
        SELECT queue FROM ready
        UNION SELECT queue FROM delayed
        UNION SELECT queue FROM dead
        UNION SELECT queue FROM messages WHERE state = 2
        UNION SELECT queue FROM paused
    )
SELECT queue FROM names WHERE queue IS NOT NULL
