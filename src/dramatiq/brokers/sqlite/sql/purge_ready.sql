-- Some of what was there as the purge began.
DELETE FROM messages
WHERE seq IN (
    SELECT seq FROM messages
    WHERE state = 0 AND queue = :queue AND seq <= :last LIMIT :count
)
