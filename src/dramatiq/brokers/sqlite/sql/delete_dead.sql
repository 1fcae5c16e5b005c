-- Drop a dead letter, unless it has moved meanwhile.
DELETE FROM messages WHERE state = 3 AND seq = :seq AND position = :died_at
