WITH gone AS (
    DELETE FROM {schema}.paused WHERE queue = %(queue)s
)
SELECT pg_notify(%(channel)s, %(queue)s)
