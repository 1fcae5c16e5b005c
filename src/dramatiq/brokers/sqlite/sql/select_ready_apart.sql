-- The same as select_ready, row by row and as blobs: for payloads that text cannot be trusted with.
SELECT seq, CAST(payload AS BLOB) FROM messages
WHERE state = 0 AND queue = :queue
ORDER BY prio, position, seq LIMIT :count
