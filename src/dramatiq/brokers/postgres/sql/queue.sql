-- How many there are in each state, whether it is paused, and when the next in turn was sent.
SELECT
    (SELECT count(*) FROM {schema}.messages WHERE state = 0 AND queue = %(queue)s),
    (SELECT count(*) FROM {schema}.messages WHERE state = 1 AND queue = %(queue)s),
    (SELECT count(*) FROM {schema}.messages WHERE state = 2 AND queue = %(queue)s),
    (SELECT count(*) FROM {schema}.dead WHERE queue = %(queue)s),
    EXISTS (SELECT 1 FROM {schema}.paused WHERE queue = %(queue)s),
    (
        SELECT position FROM {schema}.messages WHERE state = 0 AND queue = %(queue)s
        ORDER BY prio, position, seq LIMIT 1
    )
