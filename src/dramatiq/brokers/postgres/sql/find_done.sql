SELECT did FROM {schema}.done WHERE did = ANY (%(dids)s::bytea[])
