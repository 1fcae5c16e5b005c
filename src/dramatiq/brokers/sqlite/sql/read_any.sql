-- All messages there are, in the order of their rows.
SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages WHERE seq > :seq ORDER BY seq LIMIT :count
