SELECT CAST(payload AS BLOB), why, position FROM messages
WHERE state = 3 AND queue = :queue
ORDER BY position DESC, seq DESC LIMIT :count
