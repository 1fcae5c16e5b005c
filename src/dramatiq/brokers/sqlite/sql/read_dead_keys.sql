-- With a plus, so that the few rows are looked up rather than all dead letters of the queue read.
SELECT seq, queue, state, prio, position, owner, crashes, why, CAST(payload AS BLOB)
FROM messages
WHERE +state = 3 AND +queue = :queue AND seq IN (SELECT value FROM json_each(:seqs))
ORDER BY position, seq
