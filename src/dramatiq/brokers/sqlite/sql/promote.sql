-- Make what is due ready; position stays its eta, so that it takes its place among the others.
UPDATE messages SET state = 0
WHERE seq IN (
    SELECT seq FROM messages
    WHERE state = 1 AND queue = :queue AND position <= :now
    ORDER BY position LIMIT :count
)
