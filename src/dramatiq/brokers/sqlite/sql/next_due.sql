-- 0 if something is ready, else when the next delayed message is due, else NULL.
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM messages WHERE state = 0 AND queue = :queue) THEN 0
    ELSE (SELECT min(position) FROM messages WHERE state = 1 AND queue = :queue)
END
