SELECT count(*) FROM messages
WHERE state = 3 AND queue = :queue AND position BETWEEN :since AND :until
