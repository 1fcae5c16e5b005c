-- Let a dead letter start over, as what was sent just now, unless it has moved meanwhile. Its new
-- did keeps `done` from taking it for what it was.
UPDATE messages
SET state = 0, did = randomblob(16), position = :now, owner = NULL, attempts = 0, crashes = 0,
    why = NULL, payload = :payload
WHERE state = 3 AND seq = :seq AND position = :died_at
