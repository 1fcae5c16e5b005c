SELECT payload FROM {schema}.dead WHERE did = ANY (%(dids)b::bytea[])
