SELECT did FROM {schema}.done WHERE did = ANY (%(dids)b::bytea[])
