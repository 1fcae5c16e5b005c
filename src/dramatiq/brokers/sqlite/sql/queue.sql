-- How many there are in each state, counted up to a limit (-1 for none), whether it is paused, and
-- when the next in turn was sent.
SELECT
    (
        SELECT count(*) FROM (
            SELECT 1 FROM messages WHERE state = 0 AND queue = :queue LIMIT :limit
        )
    ),
    (
        SELECT count(*) FROM (
            SELECT 1 FROM messages WHERE state = 1 AND queue = :queue LIMIT :limit
        )
    ),
    (
        SELECT count(*) FROM (
            SELECT 1 FROM messages WHERE state = 2 AND queue = :queue LIMIT :limit
        )
    ),
    (
        SELECT count(*) FROM (
            SELECT 1 FROM messages WHERE state = 3 AND queue = :queue LIMIT :limit
        )
    ),
    EXISTS (SELECT 1 FROM paused WHERE queue = :queue),
    (
        SELECT position FROM messages WHERE state = 0 AND queue = :queue
        ORDER BY prio, position, seq LIMIT 1
    )
