SELECT did, seq, queue, 3::smallint, prio, died_at, NULL, crashes, why, payload
FROM {schema}.dead
WHERE queue = %(queue)s AND died_at <= %(until)s
    AND (died_at, seq) > (%(position)s::bigint, %(seq)s::bigint)
ORDER BY died_at, seq LIMIT %(count)s
