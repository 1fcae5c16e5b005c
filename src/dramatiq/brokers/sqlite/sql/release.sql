-- Give back everything of one queue that an owner holds.
UPDATE messages SET state = 0, owner = NULL
WHERE state = 2 AND owner = :owner AND queue = :queue
