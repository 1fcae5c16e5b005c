-- Some of what was there as the purge began.
DELETE FROM {schema}.dead
WHERE did = ANY (ARRAY (
    SELECT did FROM {schema}.dead WHERE queue = %(queue)s AND died_at <= %(before)s LIMIT %(count)s
))
