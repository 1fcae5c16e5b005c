-- Give back what is leased to nobody who is registered.
UPDATE messages SET state = 0, owner = NULL
WHERE state = 2 AND owner NOT IN (SELECT id FROM workers)
