SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages
WHERE state = 0 AND queue = :queue AND (prio, position, seq) > (:prio, :position, :seq)
ORDER BY prio, position, seq LIMIT :count
