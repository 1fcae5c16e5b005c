-- How many there are in each state, counted up to a limit (NULL for none), whether it is paused, and
-- when the next in turn was sent.
SELECT
    (
        SELECT count(*) FROM (
            SELECT FROM {schema}.messages WHERE state = 0 AND queue = %(queue)s LIMIT %(limit)s
        ) AS found
    ),
    (
        SELECT count(*) FROM (
            SELECT FROM {schema}.messages WHERE state = 1 AND queue = %(queue)s LIMIT %(limit)s
        ) AS found
    ),
    (
        SELECT count(*) FROM (
            SELECT FROM {schema}.messages WHERE state = 2 AND queue = %(queue)s LIMIT %(limit)s
        ) AS found
    ),
    (
        SELECT count(*) FROM (
            SELECT FROM {schema}.dead WHERE queue = %(queue)s LIMIT %(limit)s
        ) AS found
    ),
    EXISTS (SELECT 1 FROM {schema}.paused WHERE queue = %(queue)s),
    (
        SELECT position FROM {schema}.messages WHERE state = 0 AND queue = %(queue)s
        ORDER BY prio, position, seq LIMIT 1
    )
