-- Give back everything that a dead owner held.
UPDATE messages SET state = 0, owner = NULL WHERE state = 2 AND owner = :owner
