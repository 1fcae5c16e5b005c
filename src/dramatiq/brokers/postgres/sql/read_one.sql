SELECT did, seq, queue, state, prio, position, owner, crashes, NULL, payload
FROM {schema}.messages WHERE did = %(did)s AND queue = %(queue)s
UNION ALL
SELECT did, seq, queue, 3::smallint, prio, died_at, NULL, crashes, why, payload
FROM {schema}.dead WHERE did = %(did)s AND queue = %(queue)s
