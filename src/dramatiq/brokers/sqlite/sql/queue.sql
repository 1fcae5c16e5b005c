-- How many there are in each state, whether it is paused, and when the next in turn was sent.
SELECT
    (SELECT count(*) FROM messages WHERE state = 0 AND queue = :queue),
    (SELECT count(*) FROM messages WHERE state = 1 AND queue = :queue),
    (SELECT count(*) FROM messages WHERE state = 2 AND queue = :queue),
    (SELECT count(*) FROM messages WHERE state = 3 AND queue = :queue),
    EXISTS (SELECT 1 FROM paused WHERE queue = :queue),
    (
        SELECT position FROM messages WHERE state = 0 AND queue = :queue
        ORDER BY prio, position, seq LIMIT 1
    )
