-- The newest first.
SELECT did, seq, queue, 3::smallint, prio, died_at, NULL, crashes, why, payload
FROM {schema}.dead
WHERE queue = %(queue)s AND died_at >= %(since)s
    AND (died_at, seq) < (%(position)s::bigint, %(seq)s::bigint)
ORDER BY died_at DESC, seq DESC LIMIT %(count)s
