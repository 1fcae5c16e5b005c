SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages
WHERE state = 1 AND queue = :queue AND (position, seq) > (:position, :seq)
ORDER BY position, seq LIMIT :count
