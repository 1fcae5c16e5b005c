SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages
WHERE state = 3 AND queue = :queue AND position <= :until AND (position, seq) > (:position, :seq)
ORDER BY position, seq LIMIT :count
