SELECT
    (SELECT count(*) FROM messages WHERE state = 0 AND queue = :queue),
    (SELECT count(*) FROM messages WHERE state = 1 AND queue = :queue),
    (SELECT count(*) FROM messages WHERE state = 2 AND queue = :queue),
    (SELECT count(*) FROM messages WHERE state = 3 AND queue = :queue)
