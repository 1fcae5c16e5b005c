SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages WHERE seq = :seq AND queue = :queue
