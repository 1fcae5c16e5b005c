WITH gone AS (
    DELETE FROM {schema}.dead WHERE queue = %(queue)s
)
DELETE FROM {schema}.messages WHERE queue = %(queue)s AND state IN (0, 1)
