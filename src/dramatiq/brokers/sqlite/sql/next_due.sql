-- 0 if something is ready, else when the next delayed message is due, else NULL; and NULL while
-- the queue is paused.
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM paused WHERE queue = :queue) THEN NULL
    WHEN EXISTS (SELECT 1 FROM messages WHERE state = 0 AND queue = :queue) THEN 0
    ELSE (SELECT min(position) FROM messages WHERE state = 1 AND queue = :queue)
END
