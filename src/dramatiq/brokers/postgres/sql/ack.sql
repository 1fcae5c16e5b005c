-- Without a word about the state, which an owner tells: by the index of what is leased, the planner
-- would read all that this owner has held since the last vacuum.
DELETE FROM {schema}.messages
WHERE did = ANY (%(dids)b::bytea[]) AND owner = %(owner)s
RETURNING did
