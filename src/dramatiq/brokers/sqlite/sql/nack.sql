UPDATE messages
SET state = 3, owner = NULL, position = :now, why = :why, payload = coalesce(:payload, payload)
WHERE state = 2 AND owner = :owner AND seq = :seq
