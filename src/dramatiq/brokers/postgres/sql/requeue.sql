-- Without a word about the state, which an owner tells: by the index of what is leased, the planner
-- would read all that this owner has held since the last vacuum.
UPDATE {schema}.messages SET state = 0, owner = NULL
WHERE did = ANY (%(dids)b::bytea[]) AND owner = %(owner)s
RETURNING did
