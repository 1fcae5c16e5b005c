SELECT did, seq, queue, state, prio, position, owner, crashes, NULL, payload
FROM {schema}.messages
WHERE state = 0 AND queue = %(queue)s
    AND (prio, position, seq) > (%(prio)s::bigint, %(position)s::bigint, %(seq)s::bigint)
ORDER BY prio, position, seq LIMIT %(count)s
