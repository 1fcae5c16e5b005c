-- Give back what is leased to nobody who is registered.
UPDATE {schema}.messages SET state = 0, owner = NULL
WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM {schema}.workers WHERE id = messages.owner)
