DELETE FROM messages WHERE queue = :queue AND state IN (0, 1, 3)
