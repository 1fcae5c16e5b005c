SELECT did, seq, queue, state, prio, position, owner, crashes, NULL, payload
FROM {schema}.messages
WHERE state = 2 AND queue = %(queue)s AND seq > %(seq)s
ORDER BY seq LIMIT %(count)s
