-- Drop what ran to its end under a lease that was lost.
DELETE FROM messages WHERE state = 0 AND queue = :queue AND did IN (SELECT did FROM done)
