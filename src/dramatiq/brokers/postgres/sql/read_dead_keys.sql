SELECT did, seq, queue, 3::smallint, prio, died_at, NULL, crashes, why, payload
FROM {schema}.dead
WHERE queue = %(queue)s AND did = ANY (%(dids)b::bytea[])
ORDER BY died_at, seq
