DELETE FROM messages
WHERE seq IN (
    SELECT seq FROM messages
    WHERE state = 3 AND queue = :queue AND position <= :before LIMIT :count
)
