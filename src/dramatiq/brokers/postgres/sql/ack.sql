DELETE FROM {schema}.messages
WHERE did = ANY (%(dids)s::bytea[]) AND state = 2 AND owner = %(owner)s
RETURNING did
