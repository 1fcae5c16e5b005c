-- By that index: the rows of all other states come before them in the order of rows.
SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages INDEXED BY messages_leased
WHERE state = 2 AND queue = :queue AND seq > :seq
ORDER BY seq LIMIT :count
