UPDATE {schema}.messages SET state = 0, owner = NULL
WHERE did = ANY (%(dids)s::bytea[]) AND state = 2 AND owner = %(owner)s
RETURNING did
