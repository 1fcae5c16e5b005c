-- Some of what was there as the purge began.
DELETE FROM {schema}.messages
WHERE did = ANY (ARRAY (
    SELECT did FROM {schema}.messages
    WHERE state = 1 AND queue = %(queue)s AND seq <= %(last)s
    LIMIT %(count)s
    FOR UPDATE SKIP LOCKED
))
