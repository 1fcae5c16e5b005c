SELECT did, seq, queue, state, prio, position, owner, crashes, NULL, payload
FROM {schema}.messages
WHERE state = 1 AND queue = %(queue)s
    AND (position, seq) > (%(position)s::bigint, %(seq)s::bigint)
ORDER BY position, seq LIMIT %(count)s
