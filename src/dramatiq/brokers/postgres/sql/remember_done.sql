INSERT INTO {schema}.done (did, at)
SELECT did, {schema}.now_ms() FROM {schema}.messages WHERE did = ANY (%(dids)b::bytea[])
ON CONFLICT DO NOTHING
